"""Of the stages of data that come in sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdx.pipeline.foretelling import Beforehand, Foretelling, PlannedStage, Rehearsed, Steps


class Session(Foretelling):
    """How many rows of each class there are is known of prepared data only, so sessions are taken to be of
    one size."""

    def files(self, look: Beforehand, inputs: Mapping[str, Any]) -> dict[str, Any]:
        about, number, of = inputs["data"].json("data.json"), inputs["number"], inputs["sessions"]["count"]
        labelled, validation = (about["counts"][name] for name in ("labelled", "validation"))
        each = max(labelled // of, 1)
        counts = {
            "labelled": each * number if inputs["joint"] else each,
            "unlabelled": 0,
            "validation": validation * number // of,
            "test": 0,
        }
        memory = min(inputs["memory"], each * (number - 1))
        counts |= {"memory": memory} if memory else {}
        return {"data.json": {**about, "counts": counts, "hidden": 0, "session": number}}

    def counts(self, step: PlannedStage) -> Mapping[str, int]:
        found: Mapping[str, int] = step.artifact.json("data.json")["counts"]
        return found

    def amounts(self, step: PlannedStage, steps: Steps) -> dict[str, float] | None:
        return {"start": 1}

    def in_words(self, step: PlannedStage, steps: Steps) -> str:
        return f"{sum(self.counts(step).values()):,} rows"

    def disk(self, step: PlannedStage, steps: Steps, weights: int) -> int:
        return sum(self.counts(step).values()) * 16

    def costs(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """One session costs what another does, but for whether it has a memory."""
        kept = {"data": inputs["data"], "joint": inputs["joint"]}
        return kept | {"memory": bool(inputs["memory"] and inputs["number"] > 1)}

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        from kdx.pipeline.foretelling.rehearsal.others import lay_data

        return lay_data(bench, step, inputs, folder)

    def noun(self, name: str) -> str | None:
        return "session"


class Sessions(Foretelling):
    def amounts(self, step: PlannedStage, steps: Steps) -> dict[str, float] | None:
        networks = sum(map(len, step.inputs["arms"].values()))
        return {"start": 1, "rows": float(networks * self.counts(step)["test"])}

    def in_words(self, step: PlannedStage, steps: Steps) -> str:
        return f"{sum(map(len, step.inputs['arms'].values()))} networks"

    def costs(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"data": inputs["data"], "network": next(iter(inputs["arms"].values()))[-1]}

    def face(self, step: PlannedStage, reduced: Callable[[Any], Any]) -> Any:
        return reduced(step.inputs["data"])

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        from kdx.pipeline.foretelling.rehearsal.others import look_at_sessions

        return look_at_sessions(bench, inputs)
