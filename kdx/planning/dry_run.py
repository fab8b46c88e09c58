"""What a run would do, reported without doing it: its recipe runs over a store in which nothing runs.

A recipe reads what its stages wrote: how many rows there are, which round was best. A stage that is missing
is stood in for by a folder with what it foretells (kdx/pipeline/foretelling). What only a run can tell is
reported twice, once so that every round improves and once so that none does: a key that differs between the
two is not known yet. So the recipes stay the one place that knows the order. Imports torch only where the
data set has to be described first, or `precision=auto` to be settled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdx.config.wire import Order
from kdx.core.errors import UserError, UserErrors
from kdx.pipeline.foretelling import Beforehand, PlannedStage, StandIn, Unforeseen, foretelling_of
from kdx.runs.run import perform
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.source import Source
from kdx.store.stage import Stage, split_number
from kdx.store.store import Store
from kdx.store.work import PLANNED, Listener

BEYOND = "not known: "
"""What the reason begins with where nobody can say beforehand what follows."""
RATES = (
    "epochs",
    "steps",
    "length",
    "lr",
    "momentum",
    "weight_decay",
    "schedule",
    "warmup",
    "milestones",
    "patience",
    "target",
    "evaluate_every",
)
"""Settings of a training that do not change what one of its steps costs."""


class _Noting(Listener):
    def __init__(self, noted: list[str]):
        self.noted = noted

    def note(self, name: str, text: str, level: str) -> None:
        if level == PLANNED:
            self.noted.append(f"{name} {text}")


class Dry:
    """What a store in which nothing runs answers (see kdx.store.store.Asked), and the stages that it was
    asked for.

    scratch: where stand-ins lie. described: data sets looked at so far. improving: whether every round is
    better on validation than all before.
    """

    def __init__(self, order: Order, scratch: Path, described: dict[str, Any], improving: bool):
        self.order, self.scratch, self.described = order, scratch, described
        self.steps: list[PlannedStage] = []
        self.guesses = 0
        self.look = Beforehand(order.experiment, self.describe, self.guess, improving)

    def __call__(
        self, name: str, stage: Stage, key: str, inputs: Mapping[str, Any], found: Artifact | None
    ) -> Artifact:
        foretelling = foretelling_of(stage)
        if found is None and foretelling.at_once:  # kept for the run
            found = Store(self.order.store, self.order.runtime, Listener()).run(stage, **inputs)
        artifact = found or StandIn(stage.name, key, self.scratch / "foretold" / stage.name / key)
        if found is None:
            artifact.path.mkdir(parents=True, exist_ok=True)
            for file, value in unless_unforeseen(foretelling.files, {}, self.look, inputs).items():
                (artifact.path / file).write_text(json.dumps(value))
        self.steps.append(PlannedStage(name, stage, key, inputs, artifact, found is not None))
        return artifact

    def guess(self) -> int:
        self.guesses += 1
        return self.guesses

    def describe(self, dataset: Component) -> Any:
        """What a data set that is not prepared yet holds. Raises UserErrors."""
        from kdx.config.tried_data import describe_data

        name = json.dumps(dataset.spec, sort_keys=True)
        if name not in self.described:
            errors: list[str] = []
            self.described[name] = describe_data(self.order.experiment, errors)
            if errors:
                raise UserErrors(errors)
        return self.described[name]


def unless_unforeseen(method: Callable[..., Any], instead: Any, *arguments: Any) -> Any:
    """What a stage says of itself, or `instead` where that hangs on what only a run can tell."""
    try:
        return method(*arguments)
    except Unforeseen:
        return instead


def forecast(
    order: Order, scratch: Path, described: dict[str, Any], noted: list[str] | None = None
) -> tuple[list[PlannedStage], str | None]:
    """(the stages that the run asks for, in order; why it will stop there, if what the store has tells that
    it will, or why nothing can be said of what follows). noted: gets what the recipe says of how they go.
    """
    falling, end = dry(order, scratch, described, improving=False, noted=noted)
    rising, stop = falling, end
    if not all(step.stored for step in falling):  # else nothing was foreseen, and the other way is the same
        rising, stop = dry(order, scratch, described, improving=True)
    keys: dict[str, set[str]] = {}
    for step in falling:
        keys.setdefault(step.name, set()).add(step.key)
    found, guessed = [], None
    first: dict[str, str] = {}
    for step in {(step.name, step.key): step for step in rising}.values():  # two stages may ask for one probe
        known = step.key in keys.get(step.name, ())
        until = None if known or step.name not in keys else guessed
        same = first.get(step.key) if not step.stored and until is None else None
        found.append(replace(step, until=until, perhaps=step.name not in keys, same=same))
        first.setdefault(step.key, step.name)
        if not step.stored and foretelling_of(step.stage).guesses and split_number(step.name)[1]:
            guessed = step.name
    return found, stop


def dry(
    order: Order,
    scratch: Path,
    described: dict[str, Any],
    improving: bool,
    noted: list[str] | None = None,
) -> tuple[list[PlannedStage], str | None]:
    asked = Dry(order, scratch, described, improving)
    try:
        perform(order, _Noting([] if noted is None else noted), asked=asked)
    except UserErrors:
        raise
    except UserError as stop:  # such as the gate's: the store has a teacher from whom nothing is to be gained
        return asked.steps, str(stop)
    except Unforeseen as end:
        return asked.steps, f"{BEYOND}{end}"
    return asked.steps, None


class Kinds:
    """Stages whose steps cost the same: they differ in seeds, rates and length only. steps: of all runs, by
    key.
    """

    def __init__(self, steps: Mapping[str, PlannedStage]):
        self.steps = steps
        self.known: dict[str, str] = {}

    def of(self, step: PlannedStage) -> str:
        if step.key not in self.known:
            costs = foretelling_of(step.stage).costs(step.inputs)
            inputs = {k: self.reduced(v) for k, v in sorted(costs.items())}
            self.known[step.key] = json.dumps([step.stage.name, inputs], sort_keys=True)
        return self.known[step.key]

    def reduced(self, value: Any) -> Any:
        if isinstance(value, Component):
            drop = RATES if value.target == "kdx.training.settings.Training" else ()
            return {k: v for k, v in value.spec.items() if k not in drop}
        if isinstance(value, Artifact):
            return self.face(self.steps[value.key])
        if isinstance(value, Source):
            return [str(path) for path in value.paths]
        if isinstance(value, Mapping):
            return {k: self.reduced(v) for k, v in value.items()}
        return [self.reduced(v) for v in value] if isinstance(value, list | tuple) else value

    def face(self, step: PlannedStage) -> Any:
        """What the cost of a later stage depends on."""
        found = foretelling_of(step.stage).face(step, self.reduced)
        return self.of(step) if found is None else found
