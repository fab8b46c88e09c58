"""Quotes of CSV and TSV files: one that is not closed takes all that follows into its cell."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from kdx.core.errors import UserError
from kdx.data.opening import open_file

LONGEST_CELL = 1 << 27
"""Characters of a cell of a CSV file at most."""
_BLOCK = 1 << 21
_END = "this line stands behind the last one"


def check_quotes(path: Path, delimiter: str) -> None:
    """Raises UserError where the file ends inside of a quoted cell. Taken apart a second time only where the
    number of its quotes is odd: a quote inside of a word, as of 5" pipe, is none.
    """
    with open_file(path) as raw:
        if sum(block.count(b'"') for block in iter(lambda: raw.read(_BLOCK), b"")) % 2 == 0:
            return
    with open_file(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
        for _ in rows_of_cells(path, file, delimiter):
            pass


def rows_of_cells(path: Path, file: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """The cells of each row, the header too. file: its lines. Raises UserError where the last one ends inside
    of a quoted cell, and ValueError where a cell is too long.
    """

    csv.field_size_limit(LONGEST_CELL)
    rows = csv.reader(itertools.chain(file, [_END]), delimiter=delimiter)
    before = 0
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise ValueError(f"line {rows.line_num}: {error}") from error
        if row is None:
            return
        if not row or not row[-1].endswith(_END):
            yield row
        elif rows.line_num > before + 1:
            raise UserError(
                f"'{path}' ends inside of a quoted cell: a quote of the row that begins in line "
                f"{before + 1:,} is not closed, so all that follows stands in that cell. Close it, or write "
                '"" for a quote inside of a cell'
            )
        before = rows.line_num
