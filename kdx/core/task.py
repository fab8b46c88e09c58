"""Task: what the answers of a network mean. The one place that knows; everything that trains, stores,
measures and reports asks it. Imports torch only.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

# a user's own task imports from here alone all that it speaks
from kdx.core.answers import AnswerColumns as AnswerColumns
from kdx.core.answers import Answers as Answers
from kdx.core.answers import Audited as Audited
from kdx.core.answers import Evidence as Evidence
from kdx.core.answers import Figure as Figure
from kdx.core.answers import Given as Given
from kdx.core.answers import Nothing as Nothing
from kdx.core.divergence import Divergence
from kdx.core.errors import UserError
from kdx.core.metric import Metric
from kdx.core.own_metric import OwnMetric as OwnMetric
from kdx.core.readable import Readable
from kdx.core.trees import from_leaves, joined, leaves, part_of, picked, rows_of, tensor_of_rows, tree
from kdx.core.warp import Warp

HELD_BYTES = 1 << 28
"""Bytes of answers, as they are stored, that are asked for and measured together at most."""
MOST_TOGETHER = 1 << 20
"""Rows of answers that are measured together at most."""


class Task(Readable):
    """How answers are compared with the truth and with a teacher's, how they are measured, and what of a
    teacher's answer is worth keeping. Subclasses lie in files of their own and are final.

    shown: its metrics by name; where "agreement" is among them it is measured against the teacher. primary:
    the name of the one that selects weights and rounds and that a run is known by. paired: the metric whose
    value is the mean of `by_row`, by which two networks are held against each other row by row. width: what
    the last layer of a network needs to know.
    """

    shown: Mapping[str, Metric]
    primary: str
    paired: Metric
    width: int | Mapping[str, int]
    labels: ClassVar[bool] = True
    """Whether `loss` tells anything: False where nobody knows the right answer to a row."""
    averages: ClassVar[bool] = True
    """Whether several networks answer together, by `mean`."""
    placed: ClassVar[bool] = False
    """Whether answers and truth lie at places of a row, and `move` with what it shows."""
    several_forms: ClassVar[bool] = False
    """Whether networks answer in arrays of other names and shapes than `made_up` has, each in its own."""
    beside: ClassVar[bool] = False
    """Whether `condense` compares answers with those of the teacher to the same rows, in full."""

    @property
    def metric(self) -> Metric:
        """The one that counts."""
        return self.shown[self.primary]

    def fit(self, truth: Any) -> Mapping[str, Any]:
        """Keys of the task that hang on the truth that training may see, such as units, as plain data: they
        are laid over those that the data set gave. truth: of the labelled rows, arrays. Raises UserError
        where nothing could be learned from it.
        """
        return {}

    def units(self) -> nn.Module | None:
        """What makes answers of what a network's last layer gives, whose numbers are about 1; None: they are
        answers as they are.
        """
        return None

    # training

    @abstractmethod
    def loss(self, answers: Answers, truth: Answers, weights: Tensor | None = None) -> Tensor:
        """(B,) supervised loss of each row, of any sign, less where an answer is better. weights: what
        `balanced` gave."""

    @abstractmethod
    def match(self, student: Answers, teacher: Answers, temperature: float) -> Tensor:
        """(B,) how far the student's answers are from the teacher's, in full or as `unpack` gave them.
        Of any sign. temperature: of probabilities; without meaning where there are none."""

    def match_and_loss(
        self,
        student: Answers,
        teacher: Answers,
        truth: Answers,
        temperature: float,
        weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """`match` and `loss` of the same rows, (B,) each: where both take what one may work out once."""
        return self.match(student, teacher, temperature), self.loss(student, truth, weights)

    def divergence(self, student: Answers, teacher: Answers, how: Divergence, rest: str) -> Tensor:
        """(B,) the divergence of the two distributions, the mean over the places of a row where it has
        several, in nats times T^2. teacher: in full or as `unpack` gave it. rest: what is done with what was
        not kept of it, see `kdx.core.sparse_divergence.top_k_divergence`. Raises UserError where answers are
        no distributions.
        """
        raise UserError(
            f"loss=divergence compares distributions over classes or tokens, and an answer here "
            f"is {self.words}: choose another loss, such as kd"
        )

    def agreement(self, student: Answers, teacher: Answers) -> Tensor:
        """(B,) how much the two agree, more is closer."""
        return -self.match(student, teacher, 1.0)

    def too_soft(self, temperature: float) -> str | None:
        """What there is to say of a temperature of `match` at which answers tell little; None: nothing."""
        return None

    def balanced(self, truth: Answers) -> Tensor | None:
        """Weights for `loss` by which all classes weigh alike, None where there are none."""
        return None

    def mix(self, truth: Answers, other: Answers, share: Tensor) -> Answers:
        """The truth of rows that were mixed of two, share (B,) of the first."""
        raise UserError(f"rows whose answer is {self.words} cannot be mixed: leave mixup out")

    def move(self, answers: Answers, warp: Warp) -> Answers:
        """Where the task is `placed`: answers to rows, or their truth, as they lie in a view of them."""
        raise UserError(f"{self.words} lies at no place of a row, and moves with nothing that is done to it")

    def tempered(self, answers: Answers, temperature: float) -> Answers:
        """The answers of a teacher that is as much surer, or less sure: temperature 1 changes nothing, one
        below 1 makes it surer. Refused where answers have no such thing.
        """
        raise UserError(
            f"pseudo_label.temperature makes answers surer or less sure, and an answer here is {self.words}: "
            "leave it out"
        )

    def mean(self, several: Sequence[Answers]) -> Answers:
        """The answers of an ensemble."""
        named = [leaves(answers) for answers in several]
        return from_leaves({name: torch.stack([one[name] for one in named]).mean(0) for name in named[0]})

    # measuring

    def condense(self, answers: Answers, truth: Answers, teacher: Answers | None = None) -> Answers:
        """What is kept of answers to rows whose truth is known, rows first: all that measures takes it in
        their place (`metrics`, `by_row`, `quick`, `details`, `right`, `confidence`, `columns`, `displayed`,
        `hardest`, `agreement`). By default the answers as they are; a few numbers a row where those to a
        whole split would be too large. teacher: its answers to the same rows, in full, where `beside` is true
        and there is one.
        """
        return answers

    def condensed(self, stored: Mapping[str, np.ndarray], truth: Answers) -> Answers:
        """Stored arrays as `condense` keeps them, read block by block."""
        size, rows = self.rows_together(), rows_of(truth)
        return joined(
            [
                self.condense(
                    self.read(picked(stored, slice(start, start + size))), part_of(truth, start, size)
                )
                for start in range(0, rows, size)
            ]
        )

    def rows_together(self, most: int = MOST_TOGETHER) -> int:
        """How many rows are answered and measured together, so that their answers are not too large."""
        return max(1, min(most, HELD_BYTES // max(1, self.row_bytes())))

    @abstractmethod
    def metrics(self, answers: Answers, truth: Answers) -> dict[str, float]:
        """Of all rows of a split, on the CPU: the metrics of `shown` but agreement."""

    @abstractmethod
    def by_row(self, answers: Answers, truth: Answers) -> Tensor:
        """(N,) of each row the number whose mean is the metric `paired`."""

    @abstractmethod
    def knowing_nothing(self, truth: Answers) -> Nothing:
        """What the same answer to every row attains on this truth, the best one."""

    def floor(self, truth: Answers) -> float:
        """What who knows nothing attains in the metric that counts."""
        return self.knowing_nothing(truth).by_row.double().mean().item()

    def balanced_rows(self, truth: Any) -> tuple[Metric, np.ndarray]:
        """(the metric that training by `balanced` goes by, (N,) weights with which the mean of `by_row` is
        that metric)"""
        raise UserError(f"an answer here is {self.words}, and no classes are there to be balanced")

    def quick(self, answers: Answers, truth: Answers) -> dict[str, float]:
        """What is watched while training: the metric that counts, and "loss"."""
        return {
            self.primary: self.metrics(answers, truth)[self.primary],
            "loss": self.loss(answers, truth).mean().item(),
        }

    def details(self, answers: Answers, truth: Answers, part: str) -> dict[str, Any]:
        """Further plain data for results.json, of part train, validation or test: "figures" are drawn. What
        grows faster than classes or bins do, as a matrix of classes does, is among its "arrays", {name:
        tensor}: each becomes a file of the artifact.
        """
        return {}

    def summary(self, truth: Mapping[str, Answers]) -> dict[str, Any]:
        """Plain data for results.json that hang on no network. truth: by part."""
        return {}

    def right(self, answers: Answers, truth: Answers) -> Tensor | None:
        """(N,) bool, None where an answer is not right or wrong."""
        return None

    def confidence(self, answers: Answers) -> Tensor | None:
        """(N,) in [0, 1], None where answers have none."""
        return None

    def answers_of(self, truth: Answers) -> Answers:
        """The answers of who knows the truth."""
        return truth

    # stored answers

    def categories(self, answers: Answers, truth: Answers | None) -> tuple[Tensor, Tensor | None]:
        """(B, ..., V) logits of distributions over V classes or tokens, (B, ...) int64 the true ones, -1
        where one is not known; None: none is. Raises UserError where answers are no distributions.
        """
        raise UserError(
            f"pseudo_label.format keeps a part of distributions over classes or tokens, and an answer here "
            f"is {self.words}: leave it out"
        )

    def pack(self, answers: Answers) -> dict[str, Tensor]:
        """What is laid on disk of B answers: name -> (B, ...), of fixed shape and type. "" where there is one
        array."""
        return leaves(answers)

    def unpack(self, stored: Mapping[str, Tensor]) -> Answers:
        """What `pack` made, as `match` reads it."""
        return from_leaves({name: leaf.float() for name, leaf in stored.items()})

    def row_bytes(self) -> int:
        """Bytes of one stored answer."""
        packed = self.pack(self.made_up(1))
        return sum(leaf.numel() * leaf.element_size() for leaf in packed.values())

    # the truth as data

    def strata(self, truth: Answers) -> np.ndarray | None:
        """(N,) int64: the group of each row of which every share keeps its part; None: there are none."""
        return None

    def known(self, truth: Any) -> np.ndarray:
        """(N,) bool: the rows of a pool whose truth is known. Arrays, as they are stored."""
        first = np.asarray(next(iter(leaves(truth).values())))
        return np.isfinite(first).all(tuple(range(1, first.ndim)))

    def truth_within(self, rows: Any, like: Any, written: np.ndarray | None = None) -> Any:
        """The truth that rows tell of themselves, as the tokens of a text tell which ones follow; arrays of
        the form of `like`, the truth of other rows. written: (n,) how many places of each row hold something,
        None: all do. Raises UserError where rows tell none."""
        raise UserError(f"rows tell no truth of themselves, where an answer is {self.words}")

    def unknown(self, like: Any, rows: int) -> Any:
        """The truth of rows of which nobody knows it, arrays of the form of `like`."""
        return tree(lambda leaf: np.full((rows, *leaf.shape[1:]), np.nan, leaf.dtype), like)

    @abstractmethod
    def made_up_truth(self, rows: int, generator: torch.Generator | None = None) -> Answers:
        """The truth of made-up rows."""

    def made_up_by_teacher(self, rows: int, generator: torch.Generator | None = None) -> Answers:
        """Answers of a teacher to made-up rows, with all that one may tell of them."""
        return self.made_up(rows, generator)

    # pseudo-labels

    def audit(self, evidence: Evidence) -> Audited:
        """What pseudo-labels were worth, by the pool's truth where it is known."""
        found: dict[str, Any] = {}
        if evidence.truth is not None and evidence.answers:
            answers = self.condensed(evidence.answers, evidence.truth)
            found["metrics"] = self.metrics(answers, evidence.truth)
        if evidence.whole is not None:
            found["student_metrics"] = self.metrics(evidence.student, evidence.whole)
        return Audited(found)

    def audit_teacher(self, answers: Mapping[str, np.ndarray], truth: Answers) -> dict[str, Any]:
        """What is said of the first teacher on validation. answers: clean, as they are stored."""
        return {**self.metrics(self.condensed(answers, truth), truth), "n": rows_of(truth)}

    def read(self, stored: Mapping[str, np.ndarray]) -> Answers:
        """Stored arrays as answers."""
        return self.unpack({name: tensor_of_rows(array) for name, array in stored.items()})

    def spread(self, several: Sequence[Answers]) -> dict[str, Tensor]:
        """Mean and deviation of what several passes with dropout answered, by the names of Parts.extras."""
        raise UserError(
            f"pseudo_label.passes looks at the spread of probabilities, and an answer here is {self.words}: "
            "leave it out"
        )


class Categorical(Task):
    """A task whose answers are the probabilities of classes: what reads these, such as SLaM, says
    `needs_task = Categorical`."""

    classes: Sequence[str]

    @abstractmethod
    def probs(self, answers: Answers) -> Tensor:
        """(B, K), each row adds up to 1"""

    def of_probs(self, probs: Tensor) -> Answers:
        """(B, K) >= 0, each row adds up to 1 -> answers that have these probabilities, to 1e-30."""
        return probs.clamp_min(1e-30).log()

    def narrow(self, answers: Answers, classes: Sequence[int]) -> Answers:
        """What these answers are where only these classes are in question, by their numbers: the
        probabilities of all others are 0, to 1e-30."""
        among = torch.zeros(len(self.classes), dtype=torch.bool)
        among[list(classes)] = True
        probs = self.probs(answers)
        probs = probs * among.to(probs.device)
        return self.of_probs(probs / probs.sum(1, keepdim=True).clamp_min(1e-30))


class Numeric(Task):
    """A task whose answers are numbers: what does arithmetic on these says `needs_task = Numeric`."""

    words: ClassVar[str] = "a number or several"

    @abstractmethod
    def numbers(self, answers: Answers) -> Tensor:
        """(B, K) in the user's own units"""

    @abstractmethod
    def variance(self, answers: Answers) -> Tensor | None:
        """(B, K) how far the teacher doubts its numbers, in units of the task's loss; None: it does not
        say.
        """


class Boxed(Task):
    """A task whose answers are boxes with a class each: what learns from those that a teacher is sure of says
    `needs_task = Boxed`."""

    words: ClassVar[str] = "boxes with a class each"

    @abstractmethod
    def as_truth(self, answers: Answers, least: float) -> Answers:
        """The boxes of a teacher that it is at least so sure of, as truth. least: in [0, 1]."""
