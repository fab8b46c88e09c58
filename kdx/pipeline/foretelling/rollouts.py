"""Of the stage that lets a network go on with rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdx.pipeline.foretelling import Beforehand, Foretelling, PlannedStage, Rehearsed, Steps
from kdx.pipeline.scores import row_bytes
from kdx.training.length import shares, used


class Rollout(Foretelling):
    def files(self, look: Beforehand, inputs: Mapping[str, Any]) -> dict[str, Any]:
        about = inputs["data"].json("data.json")
        return {"data.json": {**about, "counts": {**about["counts"], "test": 0}}}

    def amounts(self, step: PlannedStage, steps: Steps) -> dict[str, float] | None:
        return {"start": 1, "rows": float(rolled_rows(step))}

    def in_words(self, step: PlannedStage, steps: Steps) -> str:
        return f"{rolled_rows(step):,} rows gone on with"

    def disk(self, step: PlannedStage, steps: Steps, weights: int) -> int:
        about = step.inputs["data"].json("data.json")
        return (about["counts"]["labelled"] + about["counts"]["unlabelled"]) * row_bytes(about)

    def costs(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Those of a row hang on the network and on how long the rows are."""
        about = inputs["data"].json("data.json")
        return {"network": inputs["network"], "example": about["example"], "rolling": inputs["rolling"]}

    def face(self, step: PlannedStage, reduced: Callable[[Any], Any]) -> Any:
        """Its rows are of the form of the data's."""
        return reduced(step.inputs["data"])

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        from kdx.pipeline.foretelling.rehearsal.rollouts import roll_out

        return roll_out(bench, inputs, folder)

    def noun(self, name: str) -> str | None:
        return "rollout"


def rolled_rows(step: PlannedStage) -> int:
    """At most: a row that a segment shows twice is gone on with once."""
    inputs, counts = step.inputs, step.inputs["data"].json("data.json")["counts"]
    spec = inputs["training"].spec
    seen = {name: count for name, count in used(counts, spec["rows"]).items() if name in inputs["splits"]}
    batch, many = shares(spec["batch_size"], seen, spec["labelled_share"]), inputs["steps"]
    shown = sum(min(seen[name], (many[1] - many[0]) * size) for name, size in batch.items())
    return round(inputs["share"] * shown)
