"""What a stage says before it has run: what it will write, how much there is to do, what that costs, and what
`kdx plan` tells of it. Whoever plans goes over this and knows no stage by name. No torch: what times a stage
is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from kdx.pipeline.recipes.experiment import Experiment
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.resolve import resolve
from kdx.store.stage import Stage

if TYPE_CHECKING:
    from kdx.data.raw import Description

SEEDS = ("seed", "views_seed")
"""Inputs that change a stage's key, and not what one of its steps costs."""


class Unforeseen(Exception):
    """Asked for a file that only a run can tell of. The stage that writes it, and the file."""

    def __init__(self, stage: str, file: str):
        super().__init__(f"{stage} foretells no {file}, so nothing can be said of what follows from it")


class StandIn(Artifact):
    """The folder of a stage that is missing, with what can be known of it beforehand."""

    def file(self, name: str) -> Path:
        found = super().file(name)
        if not found.exists():
            raise Unforeseen(self.stage, name)
        return found


@dataclass(frozen=True)
class PlannedStage:
    """A stage of a run. artifact: as the store has it, or what stands in for it.

    until: the stage that has to run before the key is known, None: `key` is the true one, else that of a run
    whose every round improves. perhaps: whether the stage is needed at all is not known yet. same: an earlier
    stage of the run that is missing and will leave just this.
    """

    name: str
    stage: Stage
    key: str
    inputs: Mapping[str, Any]
    artifact: Artifact
    stored: bool
    until: str | None = None
    perhaps: bool = False
    same: str | None = None

    @property
    def state(self) -> str:
        return "unknown" if self.until else "hit" if self.stored else "miss"


Steps = Mapping[str, PlannedStage]
"""The stages of all runs, by key."""


@dataclass
class Rehearsed:
    """paces: part of the stage (see Foretelling.amounts) -> seconds of one. memory: the peak in bytes.
    weights: bytes of the network that it trains; beside: of what it leaves beside that, such as what its loss
    has learned. norms: term of the loss -> L2 norm of its gradient at the
    first step; late: the same with the terms weighted as at the end, where that is otherwise. black: the data
    are not the real ones. notes: what is said of the file of weights that it begins with. known: whether
    anything could be timed at all.
    """

    paces: dict[str, float]
    memory: int | None = None
    weights: int = 0
    beside: int = 0
    norms: dict[str, float] = field(default_factory=dict)
    late: dict[str, float] = field(default_factory=dict)
    black: bool = False
    notes: Sequence[str] = ()
    known: bool = True

    def seconds(self, amounts: Mapping[str, float] | None) -> float | None:
        """None where a part was not timed, or nobody can say how much there is to do."""
        if amounts is None or not self.paces.keys() >= amounts.keys():
            return None
        return sum(self.paces[part] * often for part, often in amounts.items())


@dataclass(frozen=True)
class Beforehand:
    """What a stage may look at when it foretells its files. describe: what a data set holds, without reading
    all of it. guess: a number that grows with each call, for what only a run can tell. improving: whether
    every round is to be better than all before, or none.
    """

    experiment: Experiment
    describe: Callable[[Component], Description]
    guess: Callable[[], int]
    improving: bool


class PlannedRun(Protocol):
    """A run, foreseen. stop: why it will end early, if that is known. all_steps: those of every run."""

    @property
    def experiment(self) -> Experiment: ...
    @property
    def choices(self) -> Mapping[str, Any]: ...
    @property
    def steps(self) -> Sequence[PlannedStage]: ...
    @property
    def stop(self) -> str | None: ...
    @property
    def all_steps(self) -> Steps: ...
    @property
    def bench(self) -> Any:
        """A kdx.pipeline.foretelling.rehearsal.bench.Bench; None where everything is in the store."""

    def first(self, *stages: Stage) -> PlannedStage | None:
        """The first step of one of these stages."""

    def rehearsed(self, step: PlannedStage) -> Rehearsed:
        """Of a stage that is missing."""

    def example(self, step: PlannedStage) -> PlannedStage:
        """The one that was rehearsed for all of its kind, of another run maybe."""


class Foretelling:
    """Nothing is known of a stage but what a subclass says. A method is given the stage as it is planned."""

    guesses: ClassVar[bool] = False
    """Whether its files hold what only a run can tell, so that a later stage's key may hang on it."""
    at_once: ClassVar[bool] = False
    """Whether it is run for the plan: all later keys hold its answer."""
    asks: ClassVar[str | None] = None
    """Of a stage that lays down answers, the input that holds the networks it asks; None: it asks none."""
    whose: ClassVar[str] = ""
    """The same in words, of one that asks none: "the answers of the file"; "" where nothing is said."""

    def files(self, look: Beforehand, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """file -> what it will write into it, as far as recipes and estimates read it."""
        return {}

    def counts(self, step: PlannedStage) -> Mapping[str, int]:
        """Rows of each split of the data that it works on."""
        found: Mapping[str, int] = step.inputs["data"].json("data.json")["counts"]
        return found

    def amounts(self, step: PlannedStage, steps: Steps) -> dict[str, float] | None:
        """part -> how often it is done; None: nobody can say."""
        return None

    def in_words(self, step: PlannedStage, steps: Steps) -> str:
        """What there is to do: "600 steps of 64"."""
        return "unknown"

    def disk(self, step: PlannedStage, steps: Steps, weights: int) -> int:
        """Bytes that it leaves in the store, less the few of its JSON. weights: bytes of the network that it
        trains.
        """
        return 0

    def costs(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The inputs that decide what one of its steps costs."""
        return {name: value for name, value in inputs.items() if name not in SEEDS}

    def face(self, step: PlannedStage, reduced: Callable[[Any], Any]) -> Any:
        """What the cost of a later stage depends on; None: on all that its own does. reduced: inputs, as far
        as they cost.
        """
        return None

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        """A few of its steps, timed; files in `folder` that later stages' rehearsals read. inputs: with what
        stands in for what is missing.
        """
        return Rehearsed({}, known=False)

    def load(self, bench: Any) -> None:
        """Loads what only the first stage of a process loads."""

    def noun(self, name: str) -> str | None:
        """What several of it are counted as. name: what the run calls it."""
        return None

    def checks(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        """Sentences on what was checked and settled."""
        return []

    def tried(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        """The same of what is tried where a stage is missing."""
        return []

    def teacher(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        """Sentences on the teacher."""
        return []

    def loss(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        """Sentences on the terms of the loss."""
        return []

    def splits(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        """Sentences on the data that a comparison must agree on."""
        return []

    def protocol(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        """Further ones on what it must agree on."""
        return []


def foretelling_of(stage: Stage) -> Foretelling:
    """What a stage says of itself; of one that says nothing, nothing is known."""
    found: Foretelling = resolve(stage.foretold)() if stage.foretold else Foretelling()
    return found


def networks_asked(step: PlannedStage) -> Sequence[Artifact]:
    """Those that a stage of answers asks, by what it says of itself; none where they came from elsewhere."""
    named = foretelling_of(step.stage).asks
    found: Sequence[Artifact] = step.inputs[named] if named else ()
    return found
