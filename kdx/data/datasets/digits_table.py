"""Scikit-learn's digits as a table: 64 numbers a row, one a pixel, as they are, for teachers and students
that know nothing of pictures."""

from __future__ import annotations

from pathlib import Path

from kdx.data.tables.rows import Table
from kdx.data.tables.shipped import ShippedTable, read_numbers, table_of_classes

_LEVELS, _MOST = 16, 4
"""Levels of a pixel, and the number that the highest is given as."""


class DigitsTable(ShippedTable):
    """1,797 rows of 64 numbers from 0 to 4 (pixels / 16 * 4), 10 classes. They are not standardised: pixels
    at the edge are 0 in nearly every row, and what is divided by so small a deviation explodes.
    """

    option = "digits_table"
    names = ("digits.csv.gz",)

    def table(self, *files: Path) -> Table:
        numbers = read_numbers(files[0])
        numbers[:, :-1] *= _MOST / _LEVELS
        columns = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
        return table_of_classes(numbers, columns, "0123456789", standardise=False)
