"""reveal: a prepared data set whose labelled rows are joined by those of another split, for the controls
`ceiling` (the pool, its hidden labels given back) and `validation_labels` alone. It has no pool, no test
split and, of the second, nothing to validate on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.core.trees import leaves
from kdx.pipeline.stages.arrays import (
    DECODED,
    INPUTS,
    ROW_NUMBERS,
    TRUTH,
    array_file,
    array_files,
    build_task,
    decoded_folder,
    pointer,
    read_arrays,
    read_inputs,
)
from kdx.store.artifact import Artifact
from kdx.store.work import Work
from kdx.training.runtime import Runtime

_BLOCK = 4096
"""Rows that are copied at a time."""


def run(work: Work, runtime: Runtime, *, data: Artifact, split: str) -> None:
    """split: "unlabelled" or "validation". Files, as those of kdx.pipeline.stages.prepare: labelled.* (the
    labelled rows, then those of the split whose truth is known), validation.* as it was, or without a row
    where these are learned from, data.json. Where a split has rows of its own instead of numbers of decoded
    ones, the rows themselves are copied."""
    about = data.json("data.json")
    truth = read_arrays(data, TRUTH if split == "unlabelled" else f"{split}.{TRUTH}")
    known = np.flatnonzero(build_task(about).known(truth))
    if not len(known):
        raise UserError(
            "ceiling=true trains a student on the pool's hidden labels, and nobody knows a label of this "
            "pool: set ceiling=false"
        )
    if DECODED in about:
        about = {**about, DECODED: pointer(work.path, decoded_folder(data, about))}
    splits = ("labelled", split)
    if DECODED in about and not any(array_files(data.path, f"{name}.{INPUTS}") for name in splits):
        own, others = (np.load(data.file(f"{name}.{ROW_NUMBERS}.npy")) for name in splits)
        numbers = np.concatenate([own, others[known]])
    else:
        further = leaves(read_inputs(data, split))
        for leaf, array in leaves(read_inputs(data, "labelled")).items():
            write_joined(work.path / array_file(f"labelled.{INPUTS}", leaf), array, further[leaf], known)
        numbers = np.arange(about["counts"]["labelled"] + len(known), dtype=np.int64)
    np.save(work.path / f"labelled.{ROW_NUMBERS}.npy", numbers)
    for leaf, array in leaves(read_arrays(data, f"labelled.{TRUTH}")).items():
        np.save(
            work.path / array_file(f"labelled.{TRUTH}", leaf),
            np.concatenate([array, leaves(truth)[leaf][known]]),
        )
    for what in (ROW_NUMBERS, INPUTS, TRUTH):
        for leaf, file in array_files(data.path, f"validation.{what}").items():
            to = work.path / array_file(f"validation.{what}", leaf)
            if split == "validation":
                np.save(to, np.load(file, mmap_mode="r")[:0])
            else:
                shutil.copyfile(file, to)
    counts = {
        "labelled": about["counts"]["labelled"] + len(known),
        "validation": 0 if split == "validation" else about["counts"]["validation"],
        "test": 0,
        "unlabelled": 0,
    }
    work.write_json("data.json", {**{k: v for k, v in about.items() if k != "digests"}, "counts": counts})


def write_joined(to: Path, own: Any, others: Any, rows: np.ndarray) -> None:
    """Writes `own` and then these rows of `others`, some at a time."""
    whole = np.lib.format.open_memmap(to, "w+", own.dtype, (len(own) + len(rows), *own.shape[1:]))
    whole[: len(own)] = own
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        whole[len(own) + start :][: len(block)] = others[block]
    whole.flush()
