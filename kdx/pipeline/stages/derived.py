"""A prepared data set that is made of the rows of another: what controls, shards, sessions and the like are
trained on. It writes the files that kdx.pipeline.stages.prepare writes; no row of another split comes along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from kdx.data.stored import after, taken
from kdx.pipeline.stages.arrays import (
    DECODED,
    INPUTS,
    ORIGIN,
    ORIGINS,
    ROW_NUMBERS,
    TRUTH,
    array_files,
    build_task,
    decoded_folder,
    pointer,
    read_arrays,
    read_inputs,
    save_arrays,
)
from kdx.pipeline.stages.names import decoded_numbers
from kdx.pipeline.stages.split_rows import counted_groups
from kdx.store.artifact import Artifact
from kdx.store.work import Work

Piece = tuple[str, np.ndarray | None]
"""(a split of the data set, (n,) int64 rows of it, None: all in order)"""
STANDARD = ("labelled", "unlabelled", "validation", "test")
"""The splits that every prepared data set counts, though they may be empty."""


def truth_file(split: str) -> str:
    """What the files of a split's truth are called: that of the pool is hidden under a name of its own, so
    that whoever opens the split does not find it."""
    return TRUTH if split == "unlabelled" else f"{split}.{TRUTH}"


def lay_splits(
    work: Work, data: Artifact, splits: Mapping[str, Sequence[Piece]], **about: Any
) -> dict[str, Any]:
    """Writes a prepared data set whose splits are rows of `data`, and returns its data.json.

    splits: name -> pieces, one after the other; a name may be any, and one of `STANDARD` that is not there
    has no row. A piece of "unlabelled" brings its hidden truth along, marked as the task marks what nobody
    knows, which any other split then shows. about: further keys of data.json, in place of those of `data`.
    """
    before = data.json("data.json")
    task = build_task(before)
    counts = dict.fromkeys(STANDARD, 0)
    truths: dict[str, Any] = {}
    for name, pieces in splits.items():
        counts[name] = _lay_inputs(work, data, name, pieces)
        known = [read_arrays(data, truth_file(split)) for split, _ in pieces]
        if pieces and all(found is not None for found in known):
            chosen = [_picked(found, rows) for found, (_, rows) in zip(known, pieces, strict=True)]
            truths[name] = reduce(after, chosen)
            save_arrays(work, truth_file(name), truths[name])
    found = {key: value for key, value in before.items() if key not in ("digests", DECODED, ORIGINS)}
    if DECODED in before:
        found[DECODED] = pointer(work.path, decoded_folder(data, before))
    hidden = truths.get("unlabelled")
    found |= {
        "counts": counts,
        "hidden": 0 if hidden is None else int(np.asarray(task.known(hidden)).sum()),
        "strata": counted_groups(task, truths["validation"]) if counts["validation"] else None,
        **about,
    }
    work.write_json("data.json", found)
    return found


def _lay_inputs(work: Work, data: Artifact, name: str, pieces: Sequence[Piece]) -> int:
    """The rows of a split: their numbers, where all pieces have such, else the rows themselves. Returns how
    many."""
    numbers = [_picked(np.load(data.file(f"{split}.{ROW_NUMBERS}.npy")), rows) for split, rows in pieces]
    total = sum(map(len, numbers))
    if any(array_files(data.path, f"{split}.{INPUTS}") for split, _ in pieces):
        origins = [_picked(_origin(data, split), rows) for split, rows in pieces]
        inputs = [_picked(read_inputs(data, split), rows) for split, rows in pieces]
        save_arrays(work, f"{name}.{INPUTS}", reduce(after, inputs))
        np.save(work.path / f"{name}.{ORIGIN}.npy", reduce(after, origins))
        numbers = [np.arange(total, dtype=np.int64)]
    np.save(work.path / f"{name}.{ROW_NUMBERS}.npy", np.concatenate([*numbers, np.zeros(0, np.int64)]))
    return total


def _origin(data: Artifact, split: str) -> np.ndarray:
    """The numbers of its rows in the decoded data set, -1 where that does not hold them."""
    elsewhere = split in data.json("data.json").get(ORIGINS, {})
    found = None if elsewhere else decoded_numbers(data, split)
    rows = np.load(data.file(f"{split}.{ROW_NUMBERS}.npy"))
    return np.full(len(rows), -1, np.int64) if found is None else found


def _picked(value: Any, rows: np.ndarray | None) -> Any:
    return value if rows is None else taken(value, rows)
