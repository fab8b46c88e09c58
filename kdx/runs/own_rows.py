"""The rows of a prepared data set, known by what the data set calls them: what `kdx predict` answers in place
of files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.core.trees import picked
from kdx.core.types import Split
from kdx.data.new_rows.rows import FILE_COLUMN, ROW_COLUMN, NewRows, RowBlock
from kdx.pipeline.stages.arrays import open_split
from kdx.pipeline.stages.names import decoded_numbers, row_names
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
        self._notes: list[str] = []
        rows = np.arange(len(found))
        self._numbers = decoded_numbers(data, SPLIT_WORDS[asked])
        if self._numbers is None:
            self._rows, self._names = rows, None
            self._notes.append("an older kdx prepared these rows, so that row is the number in the split")
        else:
            self._rows, self._names = np.flatnonzero(self._numbers >= 0), row_names(data)
        if left := len(found) - len(self._rows):
            self._notes.append(f"{left:,} rows that were made up for the pool are left out")
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
