"""The rows of a prepared data set, known by what the data set calls them: what `kdx predict` answers in place
of files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from kdx.core.answers import Answers
from kdx.core.errors import UserError
from kdx.core.task import Task
from kdx.core.trees import picked, rows_of, tree
from kdx.core.types import Split
from kdx.data.new_rows.rows import NewRows, RowBlock
from kdx.pipeline.stages.arrays import TRUTH, build_task, open_split, read_truth
from kdx.pipeline.stages.names import known_by
from kdx.store.artifact import Artifact
from kdx.training.runtime import Runtime

SPLIT_WORDS = {"pool": "unlabelled", "labelled": "labelled", "validation": "validation", "test": "test"}
"""What a user types -> the split."""


class OwnRows(NewRows):
    """The rows of a split in order. Each is known by a file where the data set names its rows, as files or as
    rows in these, else by its number in the decoded data set, from 1: the same whatever the seed. Beside it
    stands its truth, where that of any row of the split is known; truth_known: that of all is. Of rows made
    up for the pool, which nobody else knows, none is given.
    """

    def __init__(
        self, data: Artifact, asked: str, runtime: Runtime, read: Callable[[Any], Any] = lambda rows: rows
    ):
        """read: rows of the data set -> what the network reads of them."""
        found = open_split(data, SPLIT_WORDS[asked], runtime)
        if found is None:
            raise UserError(f"the run has no row in its split {asked}: name another with data=")
        self._split: Split = found
        self._read = read
        self._task = build_task(data.json("data.json"))
        self._truth = _known_truth(data, found, self._task)
        self.truth_known = self._truth is not None and self._task.known(tree(np.asarray, self._truth)).all()
        self._notes: list[str] = []
        self._known = known_by(data, [found.name])[found.name]
        if self._known.numbers is None:
            self._rows = np.arange(len(found))
            self._notes.append("an older kdx prepared these rows, so that row is the number in the split")
        else:
            self._rows = np.flatnonzero(self._known.numbers >= 0)
        if left := len(found) - len(self._rows):
            self._notes.append(f"{left:,} rows that were made up for the pool are left out")
        self.count, self.unread = len(self._rows), []

    def blocks(self, size: int) -> Iterator[RowBlock]:
        for start in range(0, self.count, size):
            rows = self._rows[start : start + size]
            whole = len(rows) == rows[-1] + 1 - rows[0]
            inputs = picked(self._split.inputs, slice(int(rows[0]), int(rows[-1]) + 1) if whole else rows)
            truth = None if self._truth is None else picked(self._truth, torch.from_numpy(rows))
            yield RowBlock(
                self._known_by(rows, truth), self._read(inputs), truth if self.truth_known else None
            )

    def notes(self) -> list[str]:
        return self._notes

    def _known_by(self, rows: np.ndarray, truth: Answers | None) -> Mapping[str, Sequence[Any]]:
        found = self._known.column(rows)
        return found if truth is None else {**found, **self._task.truth_columns(truth)}


def _known_truth(data: Artifact, split: Split, task: Task) -> Answers | None:
    """Of a split, the pool's too; None where that of no row is known."""
    truth = split.truth if split.name != SPLIT_WORDS["pool"] else read_truth(data, TRUTH)
    if truth is None or rows_of(truth) != len(split):
        return None
    return truth if task.known(tree(np.asarray, truth)).any() else None
