"""Of the stages that neither lay down data, nor train, nor label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdx.pipeline.foretelling import Beforehand, Foretelling, PlannedRun, PlannedStage, Rehearsed, Steps
from kdx.pipeline.scores import metric_of, predicted_bytes, rows_measured
from kdx.store.artifact import Artifact

SINGLE = 35
"""Rows that `kdx.models.size.latency` shows to each network, one by one."""


class _Once(Foretelling):
    """A stage that does one thing."""

    def amounts(self, step: PlannedStage, steps: Steps) -> dict[str, float] | None:
        return {"start": 1}

    def in_words(self, step: PlannedStage, steps: Steps) -> str:
        return f"{self.counts(step)['unlabelled']:,} rows"


class Probe(_Once):
    at_once = True

    def tried(self, job: PlannedRun, step: PlannedStage) -> list[str]:
        probe = step.artifact.json("probe.json")
        times = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in probe["seconds"].items())
        times = times or "not tried,"
        network = step.inputs["model"].target.rpartition(".")[2]
        if step.inputs.get("answers"):
            return [
                f"pseudo_label.precision=auto: {probe['precision']} ({times} an answered batch of {network})"
            ]
        return [f"precision=auto: {probe['precision']} ({times} a step of {network})"]


class Gate(_Once):
    def files(self, look: Beforehand, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"gate.json": {"gain": True}}

    def in_words(self, step: PlannedStage, steps: Steps) -> str:
        return f"{self.counts(step)['validation']:,} rows"

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        from kdx.pipeline.foretelling.rehearsal.others import time_gate

        return time_gate(bench, self.counts(step)["validation"], metric_of(step.inputs["data"]))


class Proxy(_Once):
    """Its two looks at the pool and at validation take no longer than a labelling of as many rows."""

    def files(self, look: Beforehand, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"proxy.json": {"warn": False}}


class Choose(_Once):
    def amounts(self, step: PlannedStage, steps: Steps) -> dict[str, float] | None:
        pool, labelled = self.counts(step)["unlabelled"], self.counts(step)["labelled"]
        return {"start": 1, "rows": pool, "labelled": labelled, "rule": pool}

    def disk(self, step: PlannedStage, steps: Steps, weights: int) -> int:
        return 8 * chosen_rows(step, steps)

    def costs(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {k: v for k, v in super().costs(inputs).items() if k not in ("count", "earlier")}

    def face(self, step: PlannedStage, reduced: Callable[[Any], Any]) -> Any:
        return {"rows": step.inputs["rule"].spec}

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        from kdx.pipeline.foretelling.rehearsal.others import time_choose

        return time_choose(bench, chosen_rows(step, bench.steps), inputs, folder)

    def noun(self, name: str) -> str | None:
        return "choice"


class Audit(_Once):
    def amounts(self, step: PlannedStage, steps: Steps) -> dict[str, float] | None:
        return {"start": 1, "rows": len(step.inputs["rounds"]) * self.counts(step)["unlabelled"]}

    def costs(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {k: v for k, v in super().costs(inputs).items() if k != "rounds"}

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        from kdx.pipeline.foretelling.rehearsal.others import look_back

        return look_back(bench, inputs)


class Predict(Foretelling):
    def amounts(self, step: PlannedStage, steps: Steps) -> dict[str, float] | None:
        """Last and best weights; members of an ensemble are looked at in the same pass."""
        from kdx.pipeline.stages.under_shift import times_shown

        shown = times_shown(step.inputs.get("shifts", ())) * self.counts(step)["test"]
        return {"start": 1, "rows": _sets(self.counts(step)) * sum(step.inputs["rows"].values()) + shown}

    def in_words(self, step: PlannedStage, steps: Steps) -> str:
        return f"{sum(step.inputs['rows'].values()):,} rows"

    def disk(self, step: PlannedStage, steps: Steps, weights: int) -> int:
        return predicted_bytes(step.inputs["data"].json("data.json"), step.inputs["model"])

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        from kdx.pipeline.foretelling.rehearsal.others import predict_rows

        return predict_rows(bench, inputs)


class Evaluate(Foretelling):
    def amounts(self, step: PlannedStage, steps: Steps) -> dict[str, float] | None:
        """Every network that was not asked before: its last and its best weights on all splits, and on the
        shifted test split, and one row at a time. Members of an ensemble are looked at together.
        """
        from kdx.pipeline.stages.under_shift import times_shown

        counts, roles = self.counts(step), step.inputs["models"]
        rows = sum(rows_measured(counts).values())
        shown = times_shown(step.inputs["shifts"])
        found = {"start": 1.0} | {
            f"rows of {role}": float(_sets(counts) * rows + shown * counts["test"])
            for role in roles
            if role not in step.inputs.get("predicted", ())
        }
        if step.inputs["rounds"]:
            found["rows of student"] = found.get("rows of student", 0) + len(step.inputs["rounds"]) * rows
        return found | {f"single rows of {role}": float(SINGLE) for role in roles}

    def in_words(self, step: PlannedStage, steps: Steps) -> str:
        several = [len(made) if isinstance(made, list) else 1 for made in step.inputs["models"].values()]
        return f"{sum(several) + len(step.inputs['rounds'])} networks"

    def costs(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {k: v for k, v in super().costs(inputs).items() if k != "rounds"}

    def rehearse(self, bench: Any, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        from kdx.pipeline.foretelling.rehearsal.others import evaluate

        return evaluate(bench, inputs)


def _sets(counts: Mapping[str, int]) -> int:
    """Sets of weights of a network, at most."""
    return 2 if counts.get("validation") else 1


def chosen_rows(step: PlannedStage, steps: Steps) -> int:
    """Rows that a choice holds, those of earlier rounds included; of a rule that sorts out, at most all."""
    if step.stored:
        return int(step.artifact.json("chosen.json")["rows"])
    if step.inputs.get("count") is None:
        return int(step.inputs["data"].json("data.json")["counts"]["unlabelled"])
    earlier: Artifact | None = step.inputs.get("earlier")
    return int(step.inputs["count"]) + (chosen_rows(steps[earlier.key], steps) if earlier else 0)
