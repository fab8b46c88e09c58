"""Rows written to a file of columns block by block, whole or not at all: CSV, TSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.core.files import kind_at

_Table = Mapping[str, Sequence[Any]]
"""header -> a value for each row: text, whole numbers, or an array of numbers, of which nan is none."""


ANSWERS_BY_NAME = ".json"
"""The ending of a file that holds an answer in words to each name, or a list, and no columns."""


class RowWriter(ABC):
    """Each block has the same headers."""

    @abstractmethod
    def write(self, block: _Table) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class _Delimited(RowWriter):
    """CSV in UTF-8: a cell with the delimiter, a quote or the end of a line in it stands in quotes."""

    def __init__(self, path: Path, delimiter: str):
        self._file = path.open("x", encoding="utf-8", newline="")
        self._rows, self._begun = csv.writer(self._file, delimiter=delimiter, lineterminator="\n"), False

    def write(self, block: _Table) -> None:
        if not self._begun:
            self._rows.writerow(block)
            self._begun = True
        self._rows.writerows(
            zip(*([_in_text(cell) for cell in column] for column in block.values()), strict=True)
        )

    def close(self) -> None:
        self._file.close()


class _JsonLines(RowWriter):
    """An object a line."""

    def __init__(self, path: Path):
        self._file = path.open("x", encoding="utf-8", newline="")

    def write(self, block: _Table) -> None:
        for row in zip(*block.values(), strict=True):
            cells = dict(zip(block, map(plain_cell, row), strict=True))
            self._file.write(json.dumps(cells, ensure_ascii=False, allow_nan=False) + "\n")

    def close(self) -> None:
        self._file.close()


class _Named(RowWriter):
    """One object, {name of a row: its answer in words}, as SQuAD's script reads predictions. A block has
    these two columns."""

    def __init__(self, path: Path):
        self._file, self._names = path.open("x", encoding="utf-8", newline=""), set[str]()

    def write(self, block: _Table) -> None:
        names, answers = block.values()
        for name, answer in zip(map(str, names), answers, strict=True):
            if name in self._names:
                raise UserError(
                    f"two rows are called '{name}', and a .json file holds one answer to each name: name a "
                    ".csv file with to="
                )
            self._file.write(",\n" if self._names else "{\n")
            self._names.add(name)
            self._file.write(
                f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(answer, ensure_ascii=False)}"
            )

    def close(self) -> None:
        self._file.write("\n}\n" if self._names else "{}\n")
        self._file.close()


class _Listed(RowWriter):
    """A list of objects, as COCO has results. A block has what each row is called, and its entries: a number
    where a file is called by one, as COCO's pictures are."""

    def __init__(self, path: Path):
        self._file, self._begun = path.open("x", encoding="utf-8", newline=""), False

    def write(self, block: _Table) -> None:
        names, entries = block.values()
        for name, row in zip(names, entries, strict=True):
            stem = PurePosixPath(str(name)).stem
            key = int(stem) if stem.isascii() and stem.isdigit() else name
            for one in row:
                self._file.write(",\n" if self._begun else "[\n")
                self._begun = True
                self._file.write(json.dumps({"image_id": key, **one}, ensure_ascii=False))

    def close(self) -> None:
        self._file.write("\n]\n" if self._begun else "[]\n")
        self._file.close()


class _Parquet(RowWriter):
    """A row group a block."""

    def __init__(self, path: Path):
        self._path, self._writer = path, None

    def write(self, block: _Table) -> None:
        import pyarrow
        from pyarrow import parquet

        made = pyarrow.table(
            {name: pyarrow.array(column, from_pandas=True) for name, column in block.items()}
        )
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._path, made.schema)
        self._writer.write_table(made.cast(self._writer.schema))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


WRITERS = {
    ".csv": lambda path: _Delimited(path, ","),
    ".tsv": lambda path: _Delimited(path, "\t"),
    ".jsonl": _JsonLines,
    ".ndjson": _JsonLines,
    ".parquet": _Parquet,
}
"""The ending of a file -> who writes it."""


def check_new_file(name: str, path: Path, overwrite: bool) -> None:
    """Before any work. Raises UserError where a file of that name cannot be written, or is there already and
    not to be replaced. name: of the setting."""
    known = [*WRITERS, ANSWERS_BY_NAME]
    if path.suffix.lower() not in known:
        raise UserError(f"{name}={path} must end with {', '.join(known[:-1])} or {known[-1]}")
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise UserError(
                f"{name}={path} needs pyarrow, which is not installed: name a .csv file"
            ) from None
    there = kind_at(Path(os.path.realpath(path)))
    if there not in (None, "a file"):
        raise UserError(f"{name}={path} is {there} already: name another file")
    if there and not overwrite:
        raise UserError(f"{name}={path} is there already: name another file, or set overwrite=true")
    folder = Path(os.path.realpath(path)).parent
    if not os.access(folder, os.W_OK):
        raise UserError(f"{name}={path} cannot be written: no permission to write in '{folder}'")


@contextmanager
def whole_file(name: str, path: Path, *, listing: bool = False) -> Iterator[RowWriter]:
    """Who takes the rows; at the end the file stands there whole, and after an exception nothing new does.
    listing: whether a .json file lists several entries of each row."""
    real = Path(os.path.realpath(path))
    temporary = real.with_name(f"{real.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        ending = path.suffix.lower()
        by_name: Callable[[Path], RowWriter] = _Listed if listing else _Named
        made = by_name if ending == ANSWERS_BY_NAME else WRITERS[ending]
        writer: RowWriter = made(temporary)
        try:
            yield writer
        finally:
            writer.close()
        os.replace(temporary, real)
    except OSError as error:
        if error.filename not in (None, str(temporary), str(real)):
            raise
        raise UserError(f"{name}={path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _in_text(cell: Any) -> str:
    """In as few digits as tell a number of its precision from all others."""
    if isinstance(cell, float | np.floating):
        return "" if math.isnan(cell) else str(cell)
    return "" if cell is None else str(cell)


def plain_cell(cell: Any) -> Any:
    """As JSON has it; None for nan."""
    if isinstance(cell, np.floating):  # the shortest text of a float32 is not that of its double
        return None if math.isnan(cell) else float(str(cell))
    return cell.item() if isinstance(cell, np.generic) else cell
