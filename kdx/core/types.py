"""The few types that every method speaks: batches, splits, teachers, objectives. They name no modality and no
task. Imports torch only. A method of one's own imports from here alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kdx.core.answers import Answers as Answers
from kdx.core.batches import Batch as Batch
from kdx.core.batches import Inputs as Inputs
from kdx.core.batches import Split as Split
from kdx.core.batches import Streams as Streams
from kdx.core.batches import Teacher as Teacher
from kdx.core.task import Task


@dataclass(frozen=True)
class Parts:
    """What an objective is built from: objects, never config, and no test split, so that no method can peek.

    task: what answers mean; every Objective has it too. extras: what else the label stage kept of each row,
    by name: functions of a batch, as a Teacher is ("mean", "std", "cool_mean" and "cool_std" of Monte-Carlo
    dropout, each (B, C) float32 in [0, 1]); empty unless `pseudo_label.passes` asks for it. example: one
    made-up row as a network sees it, for methods that look into a network before the first batch; None: not
    known. class_weights: (C,) by which the loss of labels is multiplied, class by class; None: it is not.
    Every Objective has them too. teacher_size: parameters of the teacher, of several the largest; None where
    there is none, it is not known yet, or one was fitted at once, which has no such number.
    validation_views: batches of the validation rows, in order, as training shows rows to student and teacher
    (one augmented view each, the clean row beside it), for what is estimated there and applied to the pool;
    None: training shows clean rows, as `validation.clean()`.
    rows: stream -> rows of its split, which `Batch.index` numbers, for what is remembered row by row. build:
    makes a network of a description, as those that `Objective.networks` names.
    """

    student: nn.Module
    new_student: Callable[[], nn.Module]
    teacher: Teacher | None
    live_teachers: Sequence[Frozen]
    validation: Split | None
    task: Task
    extras: Mapping[str, Teacher] = field(default_factory=dict)
    example: Inputs | None = None
    teacher_size: int | None = None
    class_weights: Tensor | None = None
    validation_views: Callable[[], Iterator[Batch]] | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    build: Callable[[Any], nn.Module] | None = None


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with a rate and turns of their own, as those of a peer, a critic or a teacher that moves.

    rate: >= 0, what the learning rate of the stage is multiplied by. every, at: they move at the steps s with
    s % every == at, 0 <= at < every, and at others their gradient is forgotten. begins: the first step at
    which they may move.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    rate: float = 1.0
    every: int = 1
    at: int = 0
    begins: int = 0


Monitor = Tensor | Callable[[], Tensor]


@dataclass(frozen=True)
class Outcome:
    """terms: scalars that are summed and minimised. monitors: watched only, scalars () or one value a row
    (B,); a function that gives a scalar is called in logged steps alone.

    A monitor with one value a row is named after its stream, `unlabelled/weight`: the last value of each row
    is kept with the artifact.
    """

    terms: Mapping[str, Tensor]
    monitors: Mapping[str, Monitor] = field(default_factory=dict)

    def watched(self, logging: bool) -> dict[str, Tensor]:
        """The monitors as tensors, without those that nobody asks for in a step that is not logged."""
        return {
            name: found if isinstance(found, Tensor) else found()
            for name, found in self.monitors.items()
            if logging or isinstance(found, Tensor)
        }

    @property
    def loss(self) -> Tensor:
        first, *others = self.terms.values()
        return sum(others, start=first)


class Frozen:
    """A network that only answers: eval mode, no gradient.

    Deliberately not an `nn.Module`: an objective that holds one never optimises it, saves it or switches it
    to train mode.
    """

    def __init__(self, module: nn.Module):
        self._module = module.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, x: Inputs) -> Answers:
        """Inputs of B rows -> the answers to them"""
        found: Answers = self._module(x)
        return found

    @property
    def network(self) -> nn.Module:
        """The network itself, for taps on its layers. It is called as this object is: in eval mode, without
        gradient.
        """
        return self._module


class Objective(nn.Module, ABC):
    """A method of training: what is minimised, and what is evaluated and saved at the end.

    Subclasses are final. They take `parts` and keyword-only hyperparameters without defaults, and check each
    of them.
    """

    uses: ClassVar[tuple[str, ...]]
    """Streams without which the method has no meaning; checked before any work."""
    may_use: ClassVar[tuple[str, ...]] = ()
    """Streams that it reads where the dataset has them."""
    reads: ClassVar[tuple[str, ...]] = ("answers",)
    """What it reads of the teacher: "answers", which `parts.teacher` gives, stored or live; "network", the
    live networks `parts.live_teachers`, beside stored answers. (): no teacher, and no pseudo-labels are
    made."""
    acts: ClassVar[bool] = False
    """Whether it learns from what the student's actions lead to (kdx.core.episodes.Acts), so that it needs no
    labels."""
    needs_task: ClassVar[Any] = Task
    """The kind of task without which the method has no meaning; checked before any work. `Categorical` for
    what reads the probabilities of classes."""
    needs_distributions: ClassVar[bool] = False
    """Whether it has a meaning only where an answer is distributions over classes or tokens
    (`Task.categories`); checked before any work."""
    needs_answers: ClassVar[tuple[str, ...]] = ()
    """What a teacher must tell beside its answer, such as "variance"; checked before any work."""
    reads_validation: ClassVar[bool] = False
    """Whether it asks the teacher about the validation rows: answers in a file must then hold these."""
    reads_kept: ClassVar[bool] = False
    """Whether it hands answers to `Task.match`, `divergence` and `agreement` alone, so that a part of each
    may be stored (`pseudo_label.format`)."""
    kept_with: ClassVar[Mapping[str, Any]] = {}
    """Where it `reads_kept`: keys, each with the one value at which it does; at others it reads all of each
    answer."""
    taps_with: ClassVar[Mapping[str, Any]] = {}
    """Keys, each with the one value at which it reads hidden layers of the student, which compiling
    hides."""
    whole_batch: bool = False
    """Whether its terms are no means over the rows of each stream, so that a batch cannot be passed through
    the network in parts (`accumulate`)."""
    remembers: bool = False
    """Whether it keeps numbers of the rows that it was shown from one step to the next: where several
    processes train (`device.gpus`), each then computes the loss of all rows of a batch."""
    least_rows: int = 1
    """Rows that a batch must have: 2 where terms compare them with each other; checked before any work."""
    networks: ClassVar[tuple[str, ...]] = ()
    """Keys that name networks of conf/model in a list: they come as components, which `Parts.build` makes."""
    extra_views: ClassVar[tuple[str, ...]] = ()
    """Further inputs of each row in `Batch.views`: "second" (the same augmentation drawn again), "strong"
    (that too, and then `student_train.strong_augment`), "clean" (view 0)."""

    def __init__(self, parts: Parts):
        super().__init__()
        self.student, self.task = parts.student, parts.task
        self.register_buffer("class_weights", parts.class_weights, persistent=False)

    @abstractmethod
    def forward(self, streams: Streams, progress: float) -> Outcome:
        """One training step's terms. progress: share of the training done, in [0, 1)."""

    def refresh(self) -> Mapping[str, float]:
        """Re-estimates statistics (once an epoch), those of its weights where it has some; returns scalars to
        log.
        """
        return {
            name: value
            for part in self.children()
            if isinstance(part, Weighting)
            for name, value in part.refresh().items()
        }

    def groups(self) -> Sequence[ParameterGroup]:
        """All that it trains, each parameter in one group."""
        return [ParameterGroup("all", [p for p in self.parameters() if p.requires_grad])]

    def idle(self) -> Mapping[str, str]:
        """Its settings that another one, or the task, leaves without effect: key -> why, a clause. Where such
        a key is typed, that is an error before any work.
        """
        return {}

    def cold_student(self) -> str | None:
        """What there is to say where its student begins with fresh weights, a sentence; None: nothing."""
        return None

    def ended(self, progress: float) -> str | None:
        """What there is to say once its training is over, a sentence that becomes a warning of the run; None:
        nothing. progress: the share of the planned training that was done at its last step, in [0, 1).
        """
        alone = [
            name.rpartition(".")[2]
            for name, part in self.named_modules()
            if isinstance(part, Features) and part.alone(progress)
        ]
        return (
            f"the training ended while loss.features={','.join(alone)} counted alone, so that the student "
            "learned neither labels nor answers: train longer, or let that stage end sooner"
            if alone
            else None
        )

    def curves(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Functions that it has estimated, for people to look at: name -> x and y, both (n,), x increasing,
        to be joined by straight lines.

        They are kept with the artifact (curves.json) and in the audit. A name `margin/...` is a function of
        the teacher's margin, in [0, 1], and has values in [0, 1]: it is drawn over the teacher's reliability.
        """
        return {}

    def beside(self) -> Mapping[str, Mapping[str, float]]:
        """What it has learned beside the task, measured on validation after the last step: name -> figure ->
        number. It stands in results.<role>.beside of run.json.
        """
        return {}

    def after_step(self) -> None:
        """Runs after each optimiser step: moving averages and the like."""

    def export(self) -> nn.Module:
        """The network that is evaluated and saved."""
        return self.student

    def moved(self) -> tuple[nn.Module, bool] | None:
        """(the teacher as it has moved by now, whether it is of the student's architecture and not of the
        teacher's); None: it stands."""
        return None

    def describe_export(self, model: Mapping[str, Any]) -> Mapping[str, Any]:
        """The description of what `export` gives. model: that of the student, `_target_` and arguments."""
        return model


class Weighting(nn.Module, ABC):
    """The weight of each pool row's pseudo-label: the slot `loss.weights` of the losses that read a
    pool. Subclasses are final.

    They take `parts` and keyword-only hyperparameters without defaults, as objectives do; statistics live in
    buffers, so that a resume is exact.
    """

    needs_task: ClassVar[Any] = Task
    """As an Objective's."""
    reads_validation: ClassVar[bool] = False
    """As an Objective's."""

    @abstractmethod
    def forward(self, answers: Tensor, logits: Tensor) -> Tensor:
        """The teacher's and the student's logits of B pool rows, both (B, C), without gradient -> (B,)
        weights in [0, 1].
        """

    def refresh(self) -> Mapping[str, float]:
        """Re-estimates statistics (once an epoch); returns scalars to log."""
        return {}


@dataclass(frozen=True)
class Shown:
    """What the student has just been shown, in one forward pass. inputs: of B rows. batches: where they come
    from, in that order, each with its rows' numbers, and their truth where it is known. answers: the
    student's, with their gradient. progress: share of the training done, in [0, 1).
    """

    inputs: Inputs
    batches: Sequence[Batch]
    answers: Answers
    progress: float


class Features(nn.Module, ABC):
    """A term on hidden features, added to a loss on logits: the slot `loss.features`. Subclasses are final.

    They take `parts` and keyword-only hyperparameters without defaults; what they train (regressors,
    variances) are their own children, and no part of the student that is evaluated and saved.
    """

    reads: ClassVar[tuple[str, ...]] = ("network",)
    """As an Objective's: what it reads of the teacher beside what the loss does."""
    needs_task: ClassVar[Any] = Task
    """As an Objective's."""
    whole_batch: bool = False
    """As an Objective's: of terms that compare the rows of a batch with each other."""
    remembers: bool = False
    """As an Objective's."""
    least_rows: int = 1
    """As an Objective's."""
    weight: float = 1.0
    """What its terms are multiplied by; 0: there are none."""

    @abstractmethod
    def forward(self, shown: Shown) -> Mapping[str, Tensor]:
        """Terms (), by name, for the B rows that the student has just been shown: called once after each
        forward pass.
        """

    def alone(self, progress: float) -> bool:
        """Whether now nothing else counts, neither the loss nor another term."""
        return False
