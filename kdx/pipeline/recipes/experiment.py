"""What a recipe is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdx.core.class_names import ClassMap
from kdx.pipeline.controls.control import ControlTraining
from kdx.store.component import Component
from kdx.store.declared import declared
from kdx.store.resolve import from_own_package
from kdx.store.source import Source

_ENSEMBLE = "kdx.models.ensemble.ensemble"


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights to begin with. key: where in it they lie, None: where they usually do."""

    file: Source
    key: str | None


@dataclass(frozen=True)
class TeacherSetup:
    """One teacher, or a member of an ensemble. name: its option. training None: it is taken as it is, or
    `fitted` at once. copy: how many members before it are of the same option; its seeds hang on that, so the
    first one is the same network as in a run that has it alone. class_map: of one that learned other classes,
    which it is in ours; None: it learned these. through: data sets that it learns from before, in order: the
    name and the loader of each.
    """

    name: str
    model: Component
    checkpoint: Checkpoint | None
    training: Component | None
    copy: int = 0
    fitted: bool = False
    class_map: ClassMap | None = None
    through: Sequence[tuple[str, Component]] = ()

    @property
    def finished(self) -> bool:
        """Whether it is a network in a file, which only answers: it counts as `fitted` too."""
        return bool(declared(self.model.target, "finished", False))


@dataclass(frozen=True)
class OtherPool:
    """What stands in for the data set's own pool. name: its option. source: another data set, or what makes
    rows (kdx.data.making.RowMaker), None: the data set's own rows, changed by `steps`. limit: at most so many
    of another data set, None: all. test: whether its rows are tested on too, or how many of them. classes:
    name of a class there -> here, where it is another."""

    name: str
    source: Component | None
    makes: bool = False
    steps: Sequence[tuple[str, Component]] = ()
    limit: int | None = None
    test: bool | int | float = False
    classes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """What a recipe is asked for: components, files and numbers, never a config object.

    sizes: labelled, unlabelled, validation, test. class_weights: of the labels' cross-entropy in every
    training, and so of the gate, none | balanced. duplicates: what becomes of equal rows
    (kdx.pipeline.stages.prepare). teachers: one, or the members of an ensemble, at least one.
    student_checkpoint: the weights that the student and its controls begin with. assistants: networks between
    teacher and student, largest first. controls: role -> what is trained beside the student
    (kdx/pipeline/controls). select None: the whole pool. budget: answers that the recipe `active` buys, or
    their share of the pool. init: what the student begins with
    (kdx.core.types.Initialiser), None: fresh weights. round_patience:
    rounds without improvement on validation after which it ends, None: none. made_up: what makes further rows
    for the pool (kdx.data.making), None: nothing. headline: the weights that the run is known by, last |
    best. given: answers that come in a file in place of a teacher's (kdx.data.given); then there are no
    teachers. aggregate: what makes one answer of those of several teachers (kdx.core.aggregate), None: their
    mean. domains: steps that change the rows of each session, of recipe=continual by domain; None: they stay.
    moving: how the teacher moves while the student learns (kdx.methods.moving), None: it stands. pool:
    what stands in for the data set's own pool, None: nothing. near_copies: whether rows that are nearly
    alike are looked for across splits. untuned: roles of further students, each distilled from the teacher as
    it was before its fine-tuning (kdx/pipeline/recipes/untuned.py). loss_option: what `loss` was chosen by.
    """

    dataset: Component
    sizes: Mapping[str, Any]
    class_weights: str
    duplicates: str
    teachers: Sequence[TeacherSetup]
    student: Component
    student_checkpoint: Checkpoint | None
    teacher_loss: Component
    loss: Component
    assistants: Sequence[Component]
    controls: Mapping[str, ControlTraining]
    pseudo_label: Mapping[str, Any]
    student_train: Component
    seed: int
    select: Component | None
    rounds: int
    init: Component | None
    round_patience: int | None
    budget: int | float | None
    made_up: Component | None = None
    headline: str = "last"
    given: Component | None = None
    aggregate: Component | None = None
    domains: Sequence[tuple[str, Component | None]] = ()
    moving: Component | None = None
    pool: OtherPool | None = None
    near_copies: bool = False
    untuned: Sequence[str] = ()
    loss_option: str = ""

    def loss_called(self, loss: Component) -> str:
        """How sentences call a loss of this experiment: "loss=hard", by the option that was chosen; one of
        the user's own by its class."""
        if from_own_package(loss.target):
            return loss.target.rpartition(".")[2]
        chosen = self.loss_option if loss is self.loss else ""
        return f"loss={chosen or loss.target.split('.')[-2]}"

    @property
    def rows_made_up(self) -> int:
        return self.made_up.spec["rows"] if self.made_up else 0

    @property
    def teacher_name(self) -> str:
        """What the teacher is called: "cnn"; of an ensemble "cnn + resnet20", "5 x cnn"."""
        if self.given:
            return "answers"
        return name_of_several([teacher.name for teacher in self.teachers])


def moves_as_student(asked: Mapping[str, Any]) -> bool:
    """Whether a teacher that moves is a copy of the student, and not of the teacher. asked: its keys."""
    return (asked.get("update"), asked.get("begin")) == ("ema", "student")


def name_made(component: Mapping[str, Any], option: str) -> str:
    """What a network is called that a training gave: its option, or of peers that are exported together "an
    ensemble of 3 cnn_tiny", of other architectures "an ensemble of 3 networks".

    component: of its model.json.
    """
    members = component.get("members")
    if component.get("_target_") != _ENSEMBLE or not isinstance(members, list):
        return option
    alike = all(member == members[0] for member in members)
    return f"ensemble of {len(members)} {option if alike else 'networks'}"


def name_of_several(names: Sequence[str]) -> str:
    """["cnn", "cnn", "mlp"] -> "2 x cnn + mlp" """
    return " + ".join(f"{n} x {name}" if n > 1 else name for name, n in Counter(names).items())
