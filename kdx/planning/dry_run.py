"""What a run would do, reported without doing it: its recipe runs over a store in which nothing runs.

A recipe reads what its stages wrote: how many rows there are, which round was best. A stage that is missing
is stood in for by a folder with what can be known of that beforehand. What only a run can tell is reported
twice, once so that every round improves and once so that none does: a key that differs between the two is not
known yet. So the recipes stay the one place that knows the order. Imports torch only where the data set has
to be described first, or `precision=auto` to be settled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdx.config.wire import Order
from kdx.core.errors import UserError, UserErrors
from kdx.pipeline.stages import CHOOSE, GATE, LABEL, PREPARE, PRETRAIN, PROBE, REVEAL, TRAIN
from kdx.runs.run import perform
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.source import Source
from kdx.store.store import Listener, Stage, Store, split_number

SEEDS = ("seed", "views_seed", "count", "earlier", "rounds")
"""Inputs that change a stage's key, and not what one of its steps costs."""
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


class Dry:
    """What a store in which nothing runs answers (see kdx.store.store.Asked), and the stages that it was
    asked for.

    scratch: where stand-ins lie. described: data sets looked at so far. improving: whether every round is
    better on validation than all before.
    """

    def __init__(self, order: Order, scratch: Path, described: dict[str, Any], improving: bool):
        self.order, self.scratch, self.described, self.improving = order, scratch, described, improving
        self.steps: list[PlannedStage] = []
        self.guesses = 0

    def __call__(
        self, name: str, stage: Stage, key: str, inputs: Mapping[str, Any], found: Artifact | None
    ) -> Artifact:
        # all later keys hold its answer, so it is given for real, and kept for the run
        if found is None and stage == PROBE:
            found = Store(self.order.store, self.order.runtime, Listener()).run(PROBE, **inputs)
        artifact = found or Artifact(stage.name, key, self.scratch / "foretold" / stage.name / key)
        if found is None:
            artifact.path.mkdir(parents=True, exist_ok=True)
            for file, value in self.foretell(stage, inputs).items():
                artifact.file(file).write_text(json.dumps(value))
        self.steps.append(PlannedStage(name, stage, key, inputs, artifact, found is not None))
        return artifact

    def foretell(self, stage: Stage, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """file -> what a missing stage will write into it, as far as recipes and estimates read it."""
        if stage == PREPARE:
            return {"data.json": self.about(inputs["dataset"])}
        if stage == REVEAL:
            about = inputs["data"].json("data.json")
            validation, others = about["counts"]["validation"], inputs["split"] == "validation"
            rows = about["counts"]["labelled"] + (
                validation if others else known_labels(inputs["data"], about)
            )
            counts = {
                **about["counts"],
                "labelled": rows,
                "unlabelled": 0,
                "test": 0,
                "validation": 0 if others else validation,
            }
            return {"data.json": {**about, "counts": counts}}
        if stage == LABEL:
            return {
                "answers.json": {
                    "validation_accuracy": None,
                    "classes": inputs["data"].json("data.json")["classes"],
                }
            }
        if stage == GATE:
            return {"gate.json": {"gain": True}}
        if stage == TRAIN:
            self.guesses += 1
            guess = 1 + self.guesses if self.improving else -self.guesses  # beyond every accuracy there is
            return {
                "summary.json": {
                    "validation_accuracy": guess
                    if inputs["data"].json("data.json")["counts"]["validation"]
                    else None
                }
            }
        return {}

    def about(self, dataset: Component) -> dict[str, Any]:
        """data.json of a data set that is not prepared yet, but for its mean and deviation. hidden: rows
        whose hidden label is known. train_per_class: rows of the train part, of which validation is drawn
        class by class."""
        from kdx.config.validate import describe_data
        from kdx.data.splits import count_rows

        plan, name = self.order.plan, json.dumps(dataset.spec, sort_keys=True)
        if name not in self.described:
            errors: list[str] = []
            self.described[name] = describe_data(plan, errors)
            if errors:
                raise UserErrors(errors)
        found = self.described[name]
        counts = count_rows(found, **plan.sizes)
        kept = sum(
            counts[name]
            for name, shipped in (("test", found.test), ("validation", found.validation))
            if shipped is None
        )
        half = [0.5] * found.shape[0]
        return {
            "dataset": dataset.target.rpartition(".")[2],
            "shape": list(found.shape),
            "classes": list(found.classes),
            "mean": half,
            "std": half,
            "counts": counts,
            "skipped": [],
            "train_per_class": list(found.train_per_class),
            "hidden": found.train - kept - counts["labelled"],
        }


def known_labels(data: Artifact, about: Mapping[str, Any]) -> int:
    """Rows of the pool whose hidden label is known."""
    if "hidden" in about:
        return min(about["hidden"], about["counts"]["unlabelled"])
    import numpy as np

    return int((np.load(data.file("truth.npy")) >= 0).sum())


def forecast(order: Order, scratch: Path, described: dict[str, Any]) -> tuple[list[PlannedStage], str | None]:
    """(the stages that the run asks for, in order; why it will stop there, if what the store has tells that
    it will)
    """
    falling, _ = dry(order, scratch, described, improving=False)
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
        if not step.stored and step.stage == TRAIN and split_number(step.name)[1]:
            guessed = step.name
    return found, stop


def dry(
    order: Order, scratch: Path, described: dict[str, Any], improving: bool
) -> tuple[list[PlannedStage], str | None]:
    asked = Dry(order, scratch, described, improving)
    try:
        perform(order, Listener(), asked=asked)
    except UserErrors:
        raise
    except UserError as stop:  # such as the gate's: the store has a teacher from whom nothing is to be gained
        return asked.steps, str(stop)
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
            inputs = {k: self.reduced(v) for k, v in sorted(step.inputs.items()) if k not in SEEDS}
            if "views" in inputs:  # how many follows from the length of the training
                inputs["views"] = sorted(inputs["views"])
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
        if step.stage in (PRETRAIN, TRAIN):
            return {
                "network": step.inputs["model"].spec,
                "checkpoint": self.reduced(step.inputs.get("checkpoint")),
            }
        if step.stage == LABEL:
            return {
                "answers": sorted(step.inputs["views"]),
                "clean": step.inputs["clean"],
                "teachers": self.reduced(step.inputs["teachers"]),
            }
        return {"rows": step.inputs["rule"].spec} if step.stage == CHOOSE else self.of(step)
