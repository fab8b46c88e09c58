"""Files of columns read a few rows at a time, cell by cell: unlike kdx.data.columns, which sees what a column
holds by all of its values, for readers who know what it must hold."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError
from kdx.data.column_files import ColumnFile, delimiter_of, ending, names_in
from kdx.data.columns import NO_VALUE, name_some, plain_number, plain_word
from kdx.data.opening import open_file, quoted_header, said
from kdx.data.quotes import rows_of_cells

_LOOKED_AT = 1000
"""JSON lines whose keys are looked at before any row is read."""


@dataclass(frozen=True)
class CellBlock:
    """numbers: of the rows, from 1. columns: name -> a value for each: text, a number, a flag or None.
    bad: (number, why) of rows that could not be taken apart."""

    numbers: Sequence[int]
    columns: Mapping[str, Sequence[Any]]
    bad: Sequence[tuple[int, str]] = ()


def rows_in(path: Path) -> int:
    """Without keeping any. Raises UserError where the file cannot be read."""
    if ending(path) == ".parquet":
        from pyarrow import parquet

        with said(path):
            return int(parquet.read_metadata(path).num_rows)
    with said(path):
        return sum(1 for _ in _lines(path))


def read_cells(path: Path, wanted: Sequence[str], size: int) -> Iterator[CellBlock]:
    """The wanted columns, `size` rows at a time. Raises UserError where the file cannot be read."""
    with said(path):
        yield from _parquet(path, wanted, size) if ending(path) == ".parquet" else _text(path, wanted, size)


def cell_word(cell: Any) -> str | None:
    """As kdx.data.columns.Column.words has it: None where the value is missing."""
    text = cell_text(cell)
    return None if text is None else plain_word(text)


def cell_text(cell: Any) -> str | None:
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, int | float | Decimal):
        return None if cell != cell else plain_number(cell)
    return str(cell)


def cell_number(cell: Any) -> float:
    """nan where the value is missing; true and false are 1 and 0. Raises ValueError of what is no number."""
    if not isinstance(cell, str):
        return float("nan") if cell is None else float(cell)
    word = cell.strip().lower()
    if word in NO_VALUE:
        return float("nan")
    return float(word == "true") if word in ("true", "false") else float(word)


def _lines(path: Path) -> Iterator[Any]:
    """The rows of a file of text: lists of cells, or of JSON lines a line each."""
    kind = ending(path)
    with open_file(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
        if kind in (".jsonl", ".ndjson"):
            yield from (line for line in file if line.strip())
            return
        rows = rows_of_cells(path, file, delimiter_of(quoted_header(path), kind))
        next(rows, None)
        yield from (row for row in rows if row)


def _text(path: Path, wanted: Sequence[str], size: int) -> Iterator[CellBlock]:
    header = names_in(path)
    apart = _object if ending(path) in (".jsonl", ".ndjson") else _list
    numbers: list[int] = []
    rows: list[list[Any]] = []
    bad: list[tuple[int, str]] = []
    for number, line in enumerate(_lines(path), 1):
        found = apart(line, header, wanted)
        if isinstance(found, str):
            bad.append((number, found))
        else:
            numbers.append(number)
            rows.append(found)
        if len(rows) + len(bad) == size:
            yield _of(numbers, rows, wanted, bad)
            numbers, rows, bad = [], [], []
    if rows or bad:
        yield _of(numbers, rows, wanted, bad)


def _of(
    numbers: list[int], rows: list[list[Any]], wanted: Sequence[str], bad: list[tuple[int, str]]
) -> CellBlock:
    return CellBlock(numbers, {name: [row[k] for row in rows] for k, name in enumerate(wanted)}, bad)


def _list(row: list[str], header: Sequence[str], wanted: Sequence[str]) -> list[Any] | str:
    """The wanted cells of a row of a CSV file, or why there are none."""
    if len(row) != len(header):
        return f"it has {len(row)} values, and the header names {len(header)}"
    held = dict(zip(header, row, strict=True))
    return [held[name] for name in wanted]


def _object(line: str, header: Sequence[str], wanted: Sequence[str]) -> list[Any] | str:
    """The same of a JSON line; a key that is not there is a value that is missing."""
    try:
        held = json.loads(line)
    except ValueError as error:
        return f"it is no JSON: {error}"
    return [held.get(name) for name in wanted] if isinstance(held, dict) else "it is no JSON object"


def _parquet(path: Path, wanted: Sequence[str], size: int) -> Iterator[CellBlock]:
    first = 1
    for batch in ColumnFile(path, set(wanted).__contains__).batches(size):
        columns = {name: batch.table.column(name).to_pylist() for name in wanted}
        numbers = list(range(first, first + batch.rows))
        first += batch.rows
        yield CellBlock(numbers, columns)


def check_columns(path: Path, wanted: Sequence[str], whose: str) -> list[str]:
    """The columns of a file beside the wanted ones. whose: who wants them. Raises UserError where one lacks,
    or stands twice."""
    known = column_names(path)
    if twice := sorted({name for name in known if known.count(name) > 1}):
        raise UserError(f"'{path}' has two columns that are called '{twice[0]}': rename one")
    if lacking := [name for name in wanted if name not in known]:
        raise UserError(
            f"'{path}' lacks {'the column' if len(lacking) == 1 else 'columns'} {name_some(lacking)}, which "
            f"{whose} reads: it has {name_some(known) or 'none'}"
        )
    return [name for name in known if name not in wanted]


def column_names(path: Path) -> list[str]:
    """Of JSON lines those of the first objects: each may leave some out."""
    if ending(path) not in (".jsonl", ".ndjson"):
        return list(names_in(path))
    found: dict[str, None] = {}
    with said(path):
        for line in itertools.islice(_lines(path), _LOOKED_AT):
            with contextlib.suppress(ValueError):
                found |= dict.fromkeys(held) if isinstance(held := json.loads(line), dict) else {}
    return list(found)
