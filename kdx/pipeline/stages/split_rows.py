"""The rows of a decoded data set by split: their inputs and truth, their numbers, what each is called, and
its group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kdx.core.task import Task
from kdx.core.trees import leaves, rows_of, tree
from kdx.data.raw import PARTS, Raw
from kdx.data.splits import Rows, split
from kdx.data.stored import LazyRows, after, taken


def costly(raw: Raw) -> bool:
    """Whether its rows are too dear to read all of them only to look at them."""
    inputs = leaves(raw.part("train")[0]).values()
    return any(isinstance(leaf, LazyRows) and not leaf.cheap for leaf in inputs)


def split_raw(raw: Raw, labelled: Any, unlabelled: Any, validation: Any, test: Any, seed: int) -> Rows:
    """Who sees which rows of the train part and of the set's own pool."""
    pool, groups = raw.part("unlabelled")[0], raw.strata("train")
    return split(
        np.zeros(rows_of(raw.part("train")[0]), np.int64) if groups is None else groups,
        pool=0 if pool is None else rows_of(pool),
        has_test=raw.part("test")[0] is not None,
        labelled=labelled,
        unlabelled=unlabelled,
        validation=validation if raw.part("validation")[0] is None else None,
        test=test,
        seed=seed,
    )


def parted(raw: Raw, rows: Rows, task: Task) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """(the inputs of each split, the truth of each but the pool, that of the pool)"""
    train, known = raw.part("train")
    inputs, truth = {}, {}
    for name in ("labelled", "validation", "test"):
        shipped = raw.part(name) if name != "labelled" else (None, None)
        of_train = getattr(rows, name)
        inputs[name], truth[name] = (
            shipped if shipped[0] is not None else (taken(train, of_train), taken(known, of_train))
        )
    inputs["unlabelled"], hidden = taken(train, rows.unlabelled), taken(known, rows.unlabelled)
    pool = raw.part("unlabelled")[0]
    if pool is not None:
        inputs["unlabelled"] = after(inputs["unlabelled"], taken(pool, rows.pool))
        hidden = after(hidden, task.unknown(known, len(rows.pool)))
    return inputs, truth, hidden


def numbered(whole: Raw, kept: Mapping[str, np.ndarray], raw: Raw, rows: Rows) -> dict[str, np.ndarray]:
    """split -> (N,) int64: the numbers of its rows, through the parts of the whole data set in order. kept:
    of a part the rows that `raw` still has, all where it is not named."""
    counts = {part: 0 if (inputs := whole.part(part)[0]) is None else rows_of(inputs) for part in PARTS}
    starts = dict(zip(PARTS, np.cumsum([0, *counts.values()]).tolist(), strict=False))
    numbers = {part: starts[part] + kept.get(part, np.arange(counts[part])) for part in PARTS}
    found = {"labelled": numbers["train"][rows.labelled]}
    for name in ("validation", "test"):
        shipped = raw.part(name)[0] is not None
        found[name] = numbers[name] if shipped else numbers["train"][getattr(rows, name)]
    hidden, own = numbers["train"][rows.unlabelled], numbers["unlabelled"][rows.pool]
    return {**found, "unlabelled": np.concatenate([hidden, own])}


def classes_of(task: Task, truth: Mapping[str, Any], hidden: Any) -> dict[str, np.ndarray]:
    """(N,) group of each row by split, {} where rows have none. hidden: the pool's truth, None: leave it
    out."""
    every = truth if hidden is None else {**truth, "unlabelled": hidden}
    found = {}
    for name, value in every.items():
        if (groups := task.strata(tree(np.asarray, value))) is None:
            return {}
        found[name] = groups
    return found


def counted_groups(task: Task, truth: Any) -> list[int] | None:
    """Rows of each group, such as each class; None where there are no groups."""
    groups = task.strata(tree(np.asarray, truth))
    return None if groups is None else np.bincount(groups).tolist()


def row_namer(raw: Raw, rows: Rows) -> Callable[[str, int], str]:
    """What row i of a split is called."""

    def name(split: str, row: int) -> str:
        if split == "unlabelled":
            hidden = len(rows.unlabelled)
            return (
                raw.name("train", rows.unlabelled[row])
                if row < hidden
                else raw.name("unlabelled", rows.pool[row - hidden])
            )
        if split in ("validation", "test") and raw.part(split)[0] is not None:
            return raw.name(split, row)
        return raw.name("train", vars(rows)[split][row])

    return name
