"""The rows of a prepared data set, known by what the data set calls them: what `kdx predict` answers in place
of files."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.core.trees import picked, rows_of
from kdx.core.types import Split
from kdx.data.laid import open_raw
from kdx.data.new_rows.rows import FILE_COLUMN, ROW_COLUMN, NewRows, RowBlock
from kdx.data.raw import PARTS, Raw
from kdx.pipeline.stages.arrays import (
    DECODED,
    INPUTS,
    ORIGIN,
    ROW_NUMBERS,
    array_files,
    class_of,
    decoded_folder,
    open_split,
)
from kdx.store.artifact import Artifact
from kdx.training.runtime import Runtime

SPLIT_WORDS = {"pool": "unlabelled", "labelled": "labelled", "validation": "validation", "test": "test"}
"""What a user types -> the split."""


class OwnRows(NewRows):
    """The rows of a split in order. Each is known by a file where the data set names its rows, as files or as
    rows in these, else by its number in the decoded data set, from 1: the same whatever the seed. Of rows
    made up for the pool, which nobody else knows, none is given.
    """

    def __init__(self, data: Artifact, asked: str, runtime: Runtime):
        found = open_split(data, SPLIT_WORDS[asked], runtime)
        if found is None:
            raise UserError(f"the run has no row in its split {asked}: name another with data=")
        self._split: Split = found
        self._numbers, self._notes = decoded_numbers(data, SPLIT_WORDS[asked], len(found))
        rows = np.arange(len(found))
        self._rows = rows if self._numbers is None else np.flatnonzero(self._numbers >= 0)
        if left := len(found) - len(self._rows):
            self._notes.append(f"{left:,} rows that were made up for the pool are left out")
        self._names = row_names(data) if self._numbers is not None else None
        self.count, self.unread = len(self._rows), []

    def blocks(self, size: int) -> Iterator[RowBlock]:
        for start in range(0, self.count, size):
            rows = self._rows[start : start + size]
            whole = len(rows) == rows[-1] + 1 - rows[0]
            inputs = picked(self._split.inputs, slice(int(rows[0]), int(rows[-1]) + 1) if whole else rows)
            yield RowBlock(self._known_by(rows), inputs)

    def notes(self) -> list[str]:
        return self._notes

    def _known_by(self, rows: np.ndarray) -> Mapping[str, Sequence[Any]]:
        if self._numbers is None:
            return {ROW_COLUMN: (rows + 1).tolist()}
        numbers = self._numbers[rows].tolist()
        if self._names is None:
            return {ROW_COLUMN: [number + 1 for number in numbers]}
        return {FILE_COLUMN: [self._names(number) for number in numbers]}


def decoded_numbers(data: Artifact, split: str, count: int) -> tuple[np.ndarray | None, list[str]]:
    """((N,) int64: the numbers of a split's rows in the decoded data set, -1 of those that are not in it,
    None where an older store does not tell; what is said of that)"""
    own = array_files(data.path, f"{split}.{INPUTS}")
    file = data.file(f"{split}.{ORIGIN if own else ROW_NUMBERS}.npy")
    if DECODED in data.json("data.json") and file.is_file():
        return np.load(file), []
    return None, [f"an older kdx prepared these rows, so that row is the number in the split, 1 to {count:,}"]


def row_names(data: Artifact) -> Any:
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
