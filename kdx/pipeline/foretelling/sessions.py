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
        each = labelled // of + (number <= labelled % of)
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


class _Networks(Foretelling):
    """Networks of several roles, one after each session."""

    split = "test"
    passes = True
    """Whether each is asked about all rows of the split, and not about a part of its own."""

    def amounts(self, step: PlannedStage, steps: Steps) -> dict[str, float] | None:
        arms, rows = step.inputs["arms"], self.counts(step)[self.split]
        often = sum(map(len, arms.values())) if self.passes else len(arms)
        return {"start": 1, "rows": float(often * rows)}

    def in_words(self, step: PlannedStage, steps: Steps) -> str:
        return f"{sum(map(len, step.inputs['arms'].values()))} networks"

    def costs(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"data": inputs["data"], "network": next(iter(inputs["arms"].values()))[-1]}

    def face(self, step: PlannedStage, reduced: Callable[[Any], Any]) -> Any:
        return reduced(step.inputs["data"])

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        from kdx.pipeline.foretelling.rehearsal.others import look_at_sessions

        return look_at_sessions(bench, inputs, self.split)


class Sessions(_Networks):
    """On all test rows."""


class Prequential(_Networks):
    """On labelled rows, each network on those that come next."""

    split = "labelled"
    passes = False
