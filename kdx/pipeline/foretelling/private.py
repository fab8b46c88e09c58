"""Of the stages of the recipe `private`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdx.methods.private_budget import doubts, epsilon_spent
from kdx.methods.private_votes import VoteNoise
from kdx.pipeline.foretelling import Beforehand, Foretelling, PlannedRun, PlannedStage, Rehearsed, Steps
from kdx.pipeline.foretelling.data import DerivedData
from kdx.pipeline.foretelling.training import NetworkTraining
from kdx.pipeline.stages import RELEASE
from kdx.store.artifact import Artifact


class Divide(DerivedData):
    def counted(self, data: Mapping[str, int], inputs: Mapping[str, Any]) -> dict[str, int]:
        if inputs["side"] == "private":
            return {"labelled": data["labelled"], "validation": data["validation"]}
        return {"unlabelled": data["unlabelled"], "validation": data["validation"]}


class Answered(DerivedData):
    def counted(self, data: Mapping[str, int], inputs: Mapping[str, Any]) -> dict[str, int]:
        """Where that is not known yet, as if every query were answered."""
        asked = answered_rows(inputs["source"])
        return {
            "labelled": asked,
            "unlabelled": data["unlabelled"] - asked,
            "validation": data["validation"],
        }


class Shards(NetworkTraining):
    """The teachers of all shards."""

    def files(self, look: Beforehand, inputs: Mapping[str, Any]) -> dict[str, Any]:
        pool = inputs["public"].json("data.json")["counts"]["unlabelled"]
        shards, private = inputs["shards"], inputs["data"].json("data.json")["counts"]["labelled"]
        found = {"queries": min(inputs["queries"], pool), "shards": shards, "rows": -(-private // shards)}
        return {"shards.json": found}

    def amounts(self, step: PlannedStage, steps: Steps) -> dict[str, float] | None:
        one, shards = super().amounts(step, steps) or {}, step.inputs["shards"]
        asked = step.artifact.json("shards.json")["queries"]
        return {**{part: shards * often for part, often in one.items()}, "rows": float(shards * asked)}

    def in_words(self, step: PlannedStage, steps: Steps) -> str:
        return f"{step.inputs['shards']} teachers: {super().in_words(step, steps)}"

    def disk(self, step: PlannedStage, steps: Steps, weights: int) -> int:
        """No weights stay."""
        return 8 * int(step.artifact.json("shards.json")["queries"]) * (step.inputs["shards"] + 1)

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        from kdx.pipeline.foretelling.rehearsal.private import ask_one

        return ask_one(bench, step, inputs, folder)


class Release(Foretelling):
    def files(self, look: Beforehand, inputs: Mapping[str, Any]) -> dict[str, Any]:
        asked = inputs["votes"].json("shards.json")["queries"]
        return {"release.json": {"queries": asked, "answered": asked}}

    def amounts(self, step: PlannedStage, steps: Steps) -> dict[str, float] | None:
        return {"start": 1}

    def in_words(self, step: PlannedStage, steps: Steps) -> str:
        return f"{step.artifact.json('release.json')['queries']:,} rows"

    def counts(self, step: PlannedStage) -> Mapping[str, int]:
        return {}

    def protocol(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        votes = step.inputs["votes"].json("shards.json")
        found = list(doubts(*_cost(step), votes["shards"] * votes["rows"]))
        every = [one for one in job.all_steps.values() if one.stage == RELEASE and one.inputs["seed"] is None]
        if len(every) > 1 and step.inputs["seed"] is None:
            found += [
                f"{len(every)} releases of private rows stand here: for a row that is private in all of them "
                f"the epsilons add to {sum(_cost(one)[0] for one in every):.2f}",
            ]
        return [f"warning: {doubt}" for doubt in found]

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        from kdx.pipeline.foretelling.rehearsal.private import release_some

        return release_some(bench, step, inputs, folder)


def _cost(step: PlannedStage) -> tuple[float, float]:
    """(epsilon, delta) of a release, with what made-up rows cost beside it."""
    queries, delta = step.inputs["votes"].json("shards.json")["queries"], step.inputs["delta"]
    beside = step.inputs.get("beside") or (0.0, 0.0)
    cost = epsilon_spent(VoteNoise(**step.inputs["noise"]), queries, delta)
    return cost + beside[0], delta + beside[1]


class Membership(Foretelling):
    def in_words(self, step: PlannedStage, steps: Steps) -> str:
        return f"{len(step.inputs['targets'])} networks"

    def counts(self, step: PlannedStage) -> Mapping[str, int]:
        return {}


def answered_rows(source: Artifact) -> int:
    """Of the public rows that were asked about, those that have labels. source: the votes, or the release."""
    if source.stage == RELEASE.name:
        return int(source.json("release.json")["answered"])
    return int(source.json("shards.json")["queries"])
