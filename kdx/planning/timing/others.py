"""The stages that neither train nor label: data, the choice among the pool, the audit, the evaluation."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.methods.select import Pool, Rule
from kdx.pipeline.stages import PREPARE, gate, prepare, reveal
from kdx.pipeline.stages.arrays import open_split
from kdx.pipeline.stages.audit import thumbnails
from kdx.pipeline.stages.choose import features
from kdx.planning.dry_run import PlannedStage
from kdx.planning.timing.bench import Bench, Rehearsed, part
from kdx.planning.work import chosen_rows, counts_of
from kdx.store.store import Listener, Work
from kdx.tasks import pseudo_labels
from kdx.training.predict import predict

PREPARED = 1 << 28
"""Bytes of pictures up to which a data set is prepared for a rehearsal; a larger one is stood in for by black
pictures.
"""
TRIED = 1000
"""Rows that a rule of choice is tried on."""


def lay_data(bench: Bench, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
    """The stage itself, where it is quick."""
    about = step.artifact.json("data.json")
    if sum(about["counts"].values()) * math.prod(about["shape"]) > PREPARED:
        blacken(folder, about)
        return Rehearsed({}, black=True)
    run = prepare.run if step.stage == PREPARE else reveal.run
    return Rehearsed(
        {"start": bench.timed(lambda: run(Work(folder, step.name, Listener()), bench.runtime, **inputs))}
    )


def blacken(folder: Path, about: Mapping[str, Any]) -> None:
    """A prepared data set of the true size whose pictures are black; the files take no room on most disks."""
    for name, rows in about["counts"].items():
        np.lib.format.open_memmap(
            folder / f"{name}.images.npy", mode="w+", dtype=np.uint8, shape=(rows, *about["shape"])
        )
        np.save(
            folder / ("truth.npy" if name == "unlabelled" else f"{name}.labels.npy"),
            np.arange(rows) % len(about["classes"]),
        )
    (folder / "data.json").write_text(json.dumps(about))


def time_choose(bench: Bench, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
    """The rule is tried on some rows; its time is taken to grow with the square of their number, as that of
    the slowest rules does.
    """
    start, about = time.perf_counter(), inputs["data"].json("data.json")
    rule: Rule = inputs["rule"].build()
    pool, labelled = (
        part(open_split(inputs["data"], name, bench.runtime), TRIED) for name in ("unlabelled", "labelled")
    )
    network = bench.network(inputs["student"]) if inputs.get("student") else None
    paces = {"start": time.perf_counter() - start, "rows": 0.0, "labelled": 0.0, "rule": 0.0}
    seen: dict[str, Any] = {}
    if "teacher" in rule.needs:
        seen["teacher"] = (
            np.random.default_rng(0).normal(0, 5, (len(pool), len(about["classes"]))).astype(np.float32)
        )
    if "student" in rule.needs:
        paces["rows"] += bench.timed(
            lambda: seen.update(student=predict(network, pool, bench.runtime).numpy())
        ) / len(pool)
    if "features" in rule.needs:
        paces["rows"] += bench.timed(
            lambda: seen.update(features=features(bench.runtime, inputs["student"], pool))
        ) / len(pool)
    if "labelled_features" in rule.needs:
        spent = bench.timed(
            lambda: seen.update(labelled_features=features(bench.runtime, inputs["student"], labelled))
        )
        paces["labelled"] += spent / len(labelled)
    whole = about["counts"]["unlabelled"]
    count = inputs.get("count") and max(1, inputs["count"] * len(pool) // whole)
    few = Pool(len(about["classes"]), np.zeros(len(pool), bool), wrong=0.1, **seen)
    with contextlib.suppress(UserError):  # made-up answers may leave it nothing to choose
        # of one row of the whole
        paces["rule"] = bench.timed(lambda: rule.choose(few, count, inputs["seed"])) * whole / len(pool) ** 2
    np.save(
        folder / "rows.npy",
        np.unique(np.linspace(0, whole - 1, chosen_rows(step, bench.steps)).astype(np.int64)),
    )
    return Rehearsed(paces)


def time_gate(bench: Bench, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
    """The gate, on made-up answers."""
    right = np.arange(counts_of(step)["validation"]) % 2 > 0
    return Rehearsed(
        {"start": bench.timed(lambda: gate.hold_against(right, ~right, "") if len(right) > 1 else None)}
    )


def look_back(bench: Bench, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
    """The audit."""
    pool, labelled = (open_split(inputs["data"], name, bench.runtime) for name in ("unlabelled", "labelled"))
    start = bench.timed(
        lambda: pseudo_labels.domain_gap(thumbnails(labelled), thumbnails(pool), inputs["seed"])
    )
    return Rehearsed(
        {"start": start, "rows": bench.forward(bench.network(inputs["rounds"][0]["student"]), pool)}
    )


def evaluate(bench: Bench, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
    test = open_split(inputs["data"], "test", bench.runtime)
    paces = {"start": 0.0}
    for role, artifact in inputs["models"].items():
        network = bench.network(artifact)
        paces[f"rows of {role}"] = bench.forward(network, test)
        paces[f"single pictures of {role}"] = bench.timed(
            lambda network=network: predict(network, part(test, 1), bench.runtime)
        )
    return Rehearsed(paces)
