"""reveal: a prepared data set with the pool's hidden labels given back, for the control `ceiling` alone. It has no pool and no test split."""

from __future__ import annotations

import shutil

import numpy as np

from kdx.artifact import Artifact
from kdx.faults import Fault
from kdx.runtime import Runtime
from kdx.store import Work

BLOCK = 4096
"""Rows that are copied at a time."""


def run(work: Work, runtime: Runtime, *, data: Artifact) -> None:
    """Files, as those of kdx.stages.prepare: labelled.* (the labelled rows, then those of the pool whose class is known), validation.* as
    it was, data.json."""
    about = data.json("data.json")
    truth = np.load(data.file("truth.npy"))
    known = np.flatnonzero(truth >= 0)
    if not len(known):
        raise Fault("ceiling=true trains a student on the pool's hidden labels, and nobody knows a label of this pool: set ceiling=false")
    labelled, pool = (np.load(data.file(f"{name}.images.npy"), mmap_mode="r") for name in ("labelled", "unlabelled"))
    rows = len(labelled) + len(known)
    images = np.lib.format.open_memmap(work.path / "labelled.images.npy", "w+", labelled.dtype, (rows, *labelled.shape[1:]))
    images[: len(labelled)] = labelled
    for start in range(0, len(known), BLOCK):
        block = known[start : start + BLOCK]
        images[len(labelled) + start :][: len(block)] = pool[block]
    images.flush()
    np.save(work.path / "labelled.labels.npy", np.concatenate([np.load(data.file("labelled.labels.npy")), truth[known]]))
    for part in ("images", "labels"):
        shutil.copyfile(data.file(f"validation.{part}.npy"), work.path / f"validation.{part}.npy")
    counts = {"labelled": rows, "validation": about["counts"]["validation"], "test": 0, "unlabelled": 0}
    work.write_json("data.json", {**about, "counts": counts})
