"""Scikit-learn's digits as a table: 64 numbers a row, one a pixel, as they are, for teachers and students
that know nothing of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kdx.data.raw import Description
from kdx.data.tables.rows import CLASSES_TASK, Table, TableColumn, describe_table
from kdx.data.tables.shipped import need_shipped, numbers_of, read_numbers, shipped_files

_LEVELS, _MOST = 16, 4
"""Levels of a pixel, and the number that the highest is given as."""


class DigitsTable:
    """1,797 rows of 64 numbers from 0 to 4 (pixels / 16 * 4), 10 classes. They are not standardised: pixels
    at the edge are 0 in nearly every row, and what is divided by so small a deviation explodes.
    """

    def files(self) -> list[Path]:
        return shipped_files("digits.csv.gz")

    def fetch(self) -> None:
        need_shipped("digits_table", self.files())

    def describe(self) -> Description:
        return describe_table(self.load())

    def load(self, *, workers: int = 0) -> Table:
        self.fetch()
        table = read_numbers(self.files()[0])
        return Table(
            {"train": (numbers_of(table[:, :-1] / _LEVELS * _MOST), table[:, -1].astype(np.int64))},
            tuple(TableColumn(f"pixel_{row}_{column}") for row in range(8) for column in range(8)),
            {"_target_": CLASSES_TASK, "classes": list("0123456789")},
            standardise=False,
        )
