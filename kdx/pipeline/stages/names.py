"""Which rows of the decoded data set the rows of a split are, and what the data set calls them: for what is
said of rows afterwards. No stage needs it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from kdx.core.trees import rows_of
from kdx.data.laid import open_raw
from kdx.data.raw import PARTS, Raw
from kdx.pipeline.stages.arrays import (
    DECODED,
    INPUTS,
    ORIGIN,
    ROW_NUMBERS,
    array_files,
    class_of,
    decoded_folder,
)
from kdx.store.artifact import Artifact


def decoded_numbers(data: Artifact, split: str) -> np.ndarray | None:
    """(N,) int64: the numbers of a split's rows in the decoded data set, through its parts in order, -1 of
    those that were made up; None where an older store does not tell."""
    own = array_files(data.path, f"{split}.{INPUTS}")
    file = data.file(f"{split}.{ORIGIN if own else ROW_NUMBERS}.npy")
    if DECODED not in data.json("data.json") or not file.is_file():
        return None
    found: np.ndarray = np.load(file)
    return found


def row_names(data: Artifact) -> Callable[[int], str] | None:
    """number of a decoded row -> what the data set calls it; None where it has no names for its rows."""
    raw: Raw = open_raw(decoded_folder(data, data.json("data.json")), class_of)
    parts = [part for part in PARTS if raw.part(part)[0] is not None]
    if not all(part in raw.names for part in parts):
        return None
    ends = np.cumsum([rows_of(raw.part(part)[0]) for part in parts])
    return functools.partial(_name, raw, parts, ends)


def _name(raw: Raw, parts: Sequence[str], ends: np.ndarray, number: int) -> str:
    place = int(np.searchsorted(ends, number, side="right"))
    return raw.name(parts[place], number - (int(ends[place - 1]) if place else 0))
