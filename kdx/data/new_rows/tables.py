"""New rows of a table, as numbers and categories of the columns that a network learned from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.data.column_files import ENDINGS, ending
from kdx.data.columns import plain_word
from kdx.data.new_rows.cells import CellBlock, cell_number, cell_word, check_columns, read_cells, rows_in
from kdx.data.new_rows.rows import ROW_COLUMN, NewRows, RowBlock, check_there
from kdx.data.phrases import few
from kdx.data.tables.reading import MISSING_WORD

_LARGEST = float(np.finfo(np.float32).max)


class NewTable(NewRows):
    """The rows of a file of columns. columns: of the network's rows, each as data.json has it
    (kdx.data.tables.rows.TableColumn.document), with the mean where the adapter tells it.

    A number that is missing is 0 with its flag, or the mean in a column that lacked none before; a word that
    training has never seen is a category of its own, which networks see as none of theirs.
    """

    def __init__(self, place: Path, columns: Sequence[Mapping[str, Any]]):
        check_there(place)
        if place.is_dir() or not ending(place):
            raise UserError(f"data='{place}' must be a file of rows that ends with {', '.join(ENDINGS)}")
        self._path, self._columns = place, columns
        self._read = [column["name"] for column in columns if not column.get("flag")]
        self.columns, self.further = self._read, check_columns(place, self._read, "the network")
        self._codes = {
            column["name"]: _codes_of(column["categories"])
            for column in columns
            if column.get("categories") is not None
        }
        self._never = {column["name"]: _unseen(column) for column in columns}
        self._none = {column["name"]: len(column.get("categories") or ()) for column in columns}
        self.count, self.unread = rows_in(place), []
        if not self.count:
            raise UserError(f"'{place}' has no rows")
        self._unknown: Counter[str] = Counter()
        self._filled: Counter[str] = Counter()
        self._lacking: Counter[str] = Counter()

    def blocks(self, size: int) -> Iterator[RowBlock]:
        for cells in read_cells(self._path, self._read, size):
            values, why = self._values(cells)
            self.unread += [
                (f"row {number}", said) for number, said in sorted([*cells.bad, *why.items()]) if said
            ]
            fine = [k for k, number in enumerate(cells.numbers) if number not in why]
            if fine:
                yield RowBlock({ROW_COLUMN: [cells.numbers[k] for k in fine]}, values[fine])

    def notes(self) -> list[str]:
        found = [f"columns that the network does not read: {few(self.further)}"] if self.further else []
        for counts, what in (
            (self._unknown, "holds words that training has never seen"),
            (self._filled, "lacks values, and lacked none in training, so that the mean stands there"),
            (self._lacking, "lacks values, and lacked none in training, so that no category stands there"),
        ):
            found += [f"{name} {what}: in {rows:,} of {self.count:,} rows" for name, rows in counts.items()]
        return found

    def _values(self, cells: CellBlock) -> tuple[np.ndarray, dict[int, str]]:
        """((n, D) float32, number of a row -> why it cannot be read)"""
        values = np.zeros((len(cells.numbers), len(self._columns)), np.float32)
        why: dict[int, str] = {}
        for place, column in enumerate(self._columns):
            name = column["name"]
            if name in self._codes:
                values[:, place] = [self._code(name, cell) for cell in cells.columns[name]]
            elif not column.get("flag"):
                self._numbers(values, place, cells, why)
        return values, why

    def _code(self, name: str, cell: Any) -> int:
        codes, word = self._codes[name], cell_word(cell)
        code = codes.get(MISSING_WORD if word is None else word)
        if code is None or code in self._never[name]:
            (self._lacking if word is None else self._unknown)[name] += 1
        return self._none[name] if code is None else code

    def _numbers(self, values: np.ndarray, place: int, cells: CellBlock, why: dict[int, str]) -> None:
        """Fills a column of numbers, and that which flags its missing ones."""
        column = self._columns[place]
        for row, (number, cell) in enumerate(zip(cells.numbers, cells.columns[column["name"]], strict=True)):
            try:
                value = cell_number(cell)
            except (TypeError, ValueError):
                why.setdefault(number, f"{column['name']} is '{str(cell)[:40]}', and no number")
                continue
            if math.isnan(value):
                if "missing" in column:
                    values[row, column["missing"]] = 1
                else:
                    self._filled[column["name"]] += 1
                    values[row, place] = column.get("mean", 0.0)
            elif abs(value) > _LARGEST:
                why.setdefault(number, f"{column['name']} is {value:g}, and rows hold up to {_LARGEST:.1e}")
            else:
                values[row, place] = value


def _codes_of(categories: Sequence[str]) -> dict[str, int]:
    """Word -> its code, written as `cell_word` has it: older runs have words as they stood in the file."""
    found: dict[str, int] = {}
    for code, word in enumerate(categories):
        found.setdefault(plain_word(word) or word, code)
    return found


def _unseen(column: Mapping[str, Any]) -> set[int]:
    """Codes of words of the test file alone. Where words share a place they count as one of these."""
    if "codes" not in column or column.get("others"):
        return set()
    return set(range(len(column["categories"]))) - set(column["codes"])
