"""The stages that neither train nor label: data, the choice among the pool, the audit, the evaluation."""

from __future__ import annotations

import contextlib
import importlib
import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.core.metric import Metric
from kdx.core.trees import leaves
from kdx.methods.select import Pool, Rule
from kdx.pipeline.foretelling import PlannedStage, Rehearsed
from kdx.pipeline.foretelling.rehearsal.bench import Bench, part
from kdx.pipeline.scores import row_bytes
from kdx.pipeline.stages import decode, gate
from kdx.pipeline.stages.arrays import INPUTS, TRUTH, array_file, build_task, need_split, open_split
from kdx.pipeline.stages.audit import gap_to_pool
from kdx.pipeline.stages.choose import features
from kdx.store.work import Listener, Work
from kdx.training.predict import Condensing, predict

PREPARED = 1 << 28
"""Bytes of rows up to which a data set is prepared for a rehearsal; a larger one is stood in for by zeros."""
QUICK = 5.0
"""Seconds that measuring a teacher may take."""
TRIED = 1000
"""Rows that a rule of choice is tried on."""


def decode_data(bench: Bench, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
    """The stage itself, where it is quick."""
    about = step.artifact.json("decoded.json")
    if sum(about["rows"].values()) * row_bytes(about) > PREPARED:
        return Rehearsed({}, black=True)
    work = Work(folder, step.name, Listener())
    return Rehearsed({"start": bench.timed(lambda: decode.run(work, bench.runtime, **inputs))})


def lay_data(bench: Bench, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
    """The stage itself, where it is quick."""
    about = step.artifact.json("data.json")
    decoded = inputs.get("decoded")
    large = sum(about["counts"].values()) * row_bytes(about) > PREPARED
    if large or (decoded and not decoded.file("decoded.json").exists()):
        blacken(folder, about)
        return Rehearsed({}, black=True)
    run = importlib.import_module(step.stage.module).run
    return Rehearsed(
        {"start": bench.timed(lambda: run(Work(folder, step.name, Listener()), bench.runtime, **inputs))}
    )


def blacken(folder: Path, about: Mapping[str, Any]) -> None:
    """A prepared data set of the true size whose rows are zeros; the files take no room on most disks."""
    task = build_task(about)
    for name, rows in about["counts"].items():
        for leaf, (shape, kind) in about["example"].items():
            path = folder / array_file(f"{name}.{INPUTS}", leaf)
            np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(kind), shape=(rows, *shape))
        for leaf, truth in leaves(task.made_up_truth(rows)).items():
            known = TRUTH if name == "unlabelled" else f"{name}.{TRUTH}"
            np.save(folder / array_file(known, leaf), truth.numpy())
    (folder / "data.json").write_text(json.dumps(about))


def time_choose(bench: Bench, chosen: int, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
    """The rule is tried on some rows; its time is taken to grow with the square of their number, as that of
    the slowest rules does. chosen: rows that the choice will hold.
    """
    start, about = time.perf_counter(), inputs["data"].json("data.json")
    rule: Rule = inputs["rule"].build()
    classes = len(about.get("classes", []))
    pool, labelled = (
        part(need_split(inputs["data"], name, bench.runtime), TRIED) for name in ("unlabelled", "labelled")
    )
    paces = {"start": time.perf_counter() - start, "rows": 0.0, "labelled": 0.0, "rule": 0.0}
    seen: dict[str, Any] = {}
    if "teacher" in rule.needs:
        seen["teacher"] = np.random.default_rng(0).normal(0, 5, (len(pool), classes)).astype(np.float32)
    if "student" in rule.needs:
        network = bench.network(inputs["student"])
        paces["rows"] += bench.timed(
            lambda: seen.update(student=np.asarray(predict(network, pool, bench.runtime)))
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
    few = Pool(classes, np.zeros(len(pool), bool), wrong=0.1, **seen)
    with contextlib.suppress(UserError):  # made-up answers may leave it nothing to choose
        # of one row of the whole
        paces["rule"] = bench.timed(lambda: rule.choose(few, count, inputs["seed"])) * whole / len(pool) ** 2
    np.save(
        folder / "rows.npy",
        np.unique(np.linspace(0, whole - 1, chosen).astype(np.int64)),
    )
    return Rehearsed(paces)


def time_gate(bench: Bench, rows: int, metric: Metric) -> Rehearsed:
    """The gate, on made-up answers. rows: of validation."""
    right = np.arange(rows) % 2 > 0
    return Rehearsed(
        {
            "start": bench.timed(
                lambda: gate.hold_against(right, ~right, "", metric) if len(right) > 1 else None
            )
        }
    )


def look_back(bench: Bench, inputs: Mapping[str, Any]) -> Rehearsed:
    """The audit."""
    pool, labelled = (need_split(inputs["data"], name, bench.runtime) for name in ("unlabelled", "labelled"))
    about = inputs["data"].json("data.json")
    start = bench.timed(lambda: gap_to_pool(labelled, pool, about, inputs["seed"]))
    return Rehearsed(
        {"start": start, "rows": bench.forward(bench.network(inputs["rounds"][0]["student"]), pool)}
    )


def predict_rows(bench: Bench, inputs: Mapping[str, Any]) -> Rehearsed:
    """What one network answers, or several together."""
    test = need_split(inputs["data"], "test", bench.runtime)
    return Rehearsed({"start": 0.0, "rows": bench.forward(bench.network(inputs["model"]), test)})


def evaluate(bench: Bench, inputs: Mapping[str, Any]) -> Rehearsed:
    test = need_split(inputs["data"], "test", bench.runtime)
    paces = {"start": 0.0}
    for role, artifact in inputs["models"].items():
        network = bench.network(artifact)
        paces[f"rows of {role}"] = bench.forward(network, test)
        paces[f"single rows of {role}"] = bench.timed(partial(predict, network, part(test, 1), bench.runtime))
    return Rehearsed(paces)


def look_at_sessions(bench: Bench, inputs: Mapping[str, Any], split: str) -> Rehearsed:
    """One of the networks."""
    network = bench.network(next(iter(inputs["arms"].values()))[-1])
    pace = bench.forward(network, need_split(inputs["data"], split, bench.runtime))
    return Rehearsed({"start": 0.0, "rows": pace})


def score_now(bench: Bench, teacher: PlannedStage) -> float | None:
    """The metric that counts, on validation, of weights that are there; None where that takes long, or there
    is no such split.
    """
    validation = open_split(bench.real(teacher.inputs["data"]), "validation", bench.runtime)
    if validation is None:
        return None
    network = bench.network(bench.real(teacher.artifact))
    if bench.forward(network, validation) * len(validation) > QUICK:
        return None
    task = bench.task(teacher)
    kept = Condensing(task)
    answers = predict(network, validation, bench.runtime, batch=kept.batch, kept=kept)
    return task.metrics(answers, validation.known)[task.primary]
