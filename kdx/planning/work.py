"""How much there is to do in a stage that has not run: how often each of its parts, in words, and the bytes
that it leaves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kdx.pipeline.stages import AUDIT, CHOOSE, EVALUATE, GATE, LABEL, PREPARE, PRETRAIN, REVEAL, TRAIN
from kdx.pipeline.stages.evaluate import SPLITS
from kdx.pipeline.stages.label import rows_of, to_answer
from kdx.pipeline.stages.learn import lengths
from kdx.pipeline.stages.watch import validate_every
from kdx.planning.dry_run import PlannedStage
from kdx.store.artifact import Artifact

SINGLE = 35
"""Pictures that `kdx.models.size.latency` shows to each network, one by one."""


def counts_of(step: PlannedStage) -> Mapping[str, int]:
    """Rows of each split of the data that a stage works on; of a stage that prepares data, those that it
    makes.
    """
    data = step.artifact if step.stage in (PREPARE, REVEAL) else step.inputs["data"]
    return data.json("data.json")["counts"]


def amounts(step: PlannedStage, steps: Mapping[str, PlannedStage]) -> dict[str, float]:
    """part -> how often. steps: by key, those of the artifacts that it reads among them."""
    counts = counts_of(step)
    if step.stage in (PRETRAIN, TRAIN):
        return of_training(step, counts)
    if step.stage == LABEL:
        found = {
            "start": 1.0,
            "views": 0.0,
            "clean": 0.0,
            "passes": step.inputs["passes"] * asked_rows(step, steps),
        }
        for rows, views, first in answers(step, steps).values():
            found["views" if first else "clean"] += rows * views
        return found
    if step.stage == CHOOSE:
        return {
            "start": 1,
            "rows": counts["unlabelled"],
            "labelled": counts["labelled"],
            "rule": counts["unlabelled"],
        }
    if step.stage == AUDIT:
        return {"start": 1, "rows": len(step.inputs["rounds"]) * counts["unlabelled"]}
    if step.stage == EVALUATE:
        return of_evaluation(step, counts)
    return {"start": 1}


def of_training(step: PlannedStage, counts: Mapping[str, int]) -> dict[str, float]:
    training = step.inputs["training"]
    if training is None:
        return {"start": 1}
    steps, per_epoch = lengths(training, counts, step.inputs["epoch"], step.name)
    looks = (
        math.ceil(steps / validate_every(training.spec["evaluate_every"], steps))
        if counts.get("validation")
        else 0
    )
    return {
        "start": 1,
        "steps": steps,
        "refreshes": math.ceil(steps / per_epoch),
        "validation": looks * counts.get("validation", 0),
    }


def of_evaluation(step: PlannedStage, counts: Mapping[str, int]) -> dict[str, float]:
    """Every network: its last and its best weights on all splits, one picture at a time, and on the shifted
    test split.
    """
    rows = sum(counts.get(split, 0) for split in SPLITS.values())
    sets = 2 if counts.get("validation") else 1
    roles = step.inputs["models"]
    found = {"start": 1.0} | {
        f"rows of {role}": sets * rows + len(step.inputs["shifts"]) * counts["test"] for role in roles
    }
    if step.inputs["rounds"]:
        found["rows of student"] = found.get("rows of student", 0) + len(step.inputs["rounds"]) * rows
    return found | {f"single pictures of {role}": SINGLE for role in roles}


def answers(step: PlannedStage, steps: Mapping[str, PlannedStage]) -> dict[str, tuple[int, int, int]]:
    """file -> (rows, views of each, the first of them) that a labelling stage will answer."""
    inputs, counts = step.inputs, counts_of(step)
    wanted = to_answer(
        counts,
        inputs["views"],
        inputs["clean"],
        inputs["pool"] and inputs["rows"] is None,
        [name for name, _ in inputs["augment"]],
    )
    asked = asked_rows(step, steps)
    return {name: (rows_of(name, counts, asked), views, first) for name, (views, first) in wanted.items()}


def asked_rows(step: PlannedStage, steps: Mapping[str, PlannedStage]) -> int:
    """Rows of the pool that a labelling stage answers."""
    if not step.inputs["pool"]:
        return 0
    chosen = step.inputs["rows"]
    return counts_of(step)["unlabelled"] if chosen is None else chosen_rows(steps[chosen.key], steps)


def chosen_rows(step: PlannedStage, steps: Mapping[str, PlannedStage]) -> int:
    """Rows that a choice holds, those of earlier rounds included; of a rule that sorts out, at most all."""
    if step.stored:
        return step.artifact.json("chosen.json")["rows"]
    if step.inputs.get("count") is None:
        return counts_of(step)["unlabelled"]
    earlier: Artifact | None = step.inputs.get("earlier")
    return step.inputs["count"] + (chosen_rows(steps[earlier.key], steps) if earlier else 0)


def disk(step: PlannedStage, steps: Mapping[str, PlannedStage], weights: int) -> int:
    """Bytes that a stage leaves in the store, less the few of its JSON. weights: bytes of the network that it
    trains.
    """
    counts = counts_of(step)
    if step.stage in (PREPARE, REVEAL):
        return sum(counts.values()) * (math.prod(step.artifact.json("data.json")["shape"]) + 8)
    if step.stage in (PRETRAIN, TRAIN):
        return weights * (2 if counts.get("validation") and step.inputs["training"] is not None else 1)
    if step.stage == LABEL:
        classes = len(step.inputs["data"].json("data.json")["classes"])
        extras = (
            4 * 4 * classes * counts["unlabelled"] if step.inputs["passes"] and step.inputs["pool"] else 0
        )
        return sum(2 * classes * rows * views for rows, views, _ in answers(step, steps).values()) + extras
    return 8 * chosen_rows(step, steps) if step.stage == CHOOSE else 0


def in_words(step: PlannedStage, steps: Mapping[str, PlannedStage]) -> str:
    """What there is to do: "600 steps of 64"."""
    found, counts = amounts(step, steps), counts_of(step)
    if step.stage in (PRETRAIN, TRAIN):
        training: Any = step.inputs["training"]
        if training is None:
            return "taken as it is"
        most = "at most " if training.spec["patience"] or training.spec["target"] else ""
        return f"{most}{found['steps']:,} steps of {training.spec['batch_size']}"
    if step.stage == LABEL:
        return f"{round(found['views'] + found['clean'] + found['passes']):,} answers"
    if step.stage == EVALUATE:
        return f"{len(step.inputs['models']) + len(step.inputs['rounds'])} networks"
    rows = (
        sum(counts.values())
        if step.stage in (PREPARE, REVEAL)
        else counts["validation" if step.stage == GATE else "unlabelled"]
    )
    return f"{rows:,} rows"
