"""reveal: a prepared data set whose labelled rows are joined by those of another split, for the controls
`ceiling` (the pool, its hidden labels given back) and `validation_labels` alone. It has no pool, no test
split and, of the second, nothing to validate on."""

from __future__ import annotations

import shutil

import numpy as np

from kdx.core.errors import UserError
from kdx.store.artifact import Artifact
from kdx.store.store import Work
from kdx.training.runtime import Runtime

_BLOCK = 4096
"""Rows that are copied at a time."""


def run(work: Work, runtime: Runtime, *, data: Artifact, split: str) -> None:
    """split: "unlabelled" or "validation". Files, as those of kdx.pipeline.stages.prepare: labelled.* (the
    labelled rows, then those of the split whose class is known), validation.* as it was, or without a row
    where these are learned from, data.json."""
    about = data.json("data.json")
    truth = np.load(data.file("truth.npy" if split == "unlabelled" else f"{split}.labels.npy"))
    known = np.flatnonzero(truth >= 0)
    if not len(known):
        raise UserError(
            "ceiling=true trains a student on the pool's hidden labels, and nobody knows a label of this "
            "pool: set ceiling=false"
        )
    labelled, others = (
        np.load(data.file(f"{name}.images.npy"), mmap_mode="r") for name in ("labelled", split)
    )
    rows = len(labelled) + len(known)
    images = np.lib.format.open_memmap(
        work.path / "labelled.images.npy", "w+", labelled.dtype, (rows, *labelled.shape[1:])
    )
    images[: len(labelled)] = labelled
    for start in range(0, len(known), _BLOCK):
        block = known[start : start + _BLOCK]
        images[len(labelled) + start :][: len(block)] = others[block]
    images.flush()
    np.save(
        work.path / "labelled.labels.npy",
        np.concatenate([np.load(data.file("labelled.labels.npy")), truth[known]]),
    )
    for file in ("validation.images.npy", "validation.labels.npy"):
        if split == "validation":
            np.save(work.path / file, np.load(data.file(file), mmap_mode="r")[:0])
        else:
            shutil.copyfile(data.file(file), work.path / file)
    counts = {
        "labelled": rows,
        "validation": 0 if split == "validation" else about["counts"]["validation"],
        "test": 0,
        "unlabelled": 0,
    }
    work.write_json("data.json", {**about, "counts": counts})
