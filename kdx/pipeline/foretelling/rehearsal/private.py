"""One teacher of a shard, and a release that is made up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdx.pipeline.foretelling import PlannedStage, Rehearsed
from kdx.pipeline.foretelling.rehearsal.bench import Bench
from kdx.pipeline.foretelling.rehearsal.training import train
from kdx.pipeline.stages.arrays import need_split
from kdx.store.artifact import Artifact
from kdx.store.stage import subseed

_OWN = ("public", "shards", "queries")
"""Inputs that a training has not."""


def ask_one(bench: Bench, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
    """The first steps of a teacher, and what it takes to ask it; leaves votes that are made up."""
    one = {key: value for key, value in inputs.items() if key not in _OWN}
    found = train(bench, step, {**one, "views_seed": inputs["seed"]}, folder)
    pool = need_split(inputs["public"], "unlabelled", bench.runtime)
    network = bench.network(Artifact(step.stage.name, step.key, folder))
    found.paces["rows"] = bench.forward(network, pool)
    queries, shards = step.artifact.json("shards.json")["queries"], inputs["shards"]
    classes = len(inputs["data"].json("data.json")["classes"])
    random = np.random.Generator(np.random.PCG64(subseed(0, "rehearsal")))
    np.save(folder / "said.npy", random.integers(classes, size=(shards, queries)))
    np.save(folder / "asked.npy", np.arange(queries))
    (folder / "shards.json").write_text(
        json.dumps({"shards": shards, "queries": queries, "classes": classes, "rows": 0})
    )
    return found


def release_some(bench: Bench, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
    """No noise is drawn over real votes for a plan."""
    about = inputs["votes"].json("shards.json")
    queries = about["queries"]
    np.save(folder / "asked.npy", np.arange(queries))
    np.save(folder / "labels.npy", np.arange(queries) % max(2, about.get("classes", 2)))
    (folder / "release.json").write_text(json.dumps({"queries": queries, "answered": queries}))
    return Rehearsed({"start": 0.0})
