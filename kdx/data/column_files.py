"""Files of columns read by pyarrow: CSV, TSV, JSON lines and Parquet, whole or a batch of rows at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kdx.core.errors import UserError
from kdx.data.columns import NO_VALUE, Columns, name_some, reads_as_number
from kdx.data.opening import header_line, not_utf8, open_file, said

if TYPE_CHECKING:
    import pyarrow

DELIMITERS = ",;\t|"
ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Of files that can be read; all but Parquet may be packed with gzip and end with .gz too."""
BATCH_ROWS = 1 << 16
_BLOCK = 1 << 21
"""Bytes of a CSV file that are looked at together; what its columns hold is guessed by the first so many."""
_LINES = (".jsonl", ".ndjson")
_JSON_KINDS = {str: "a word", float: "a number", bool: "true or false", list: "a list", dict: "an object"}


class Pass(Protocol):
    """What looks at a file from its first row to its last."""

    def add(self, columns: Columns) -> None:
        """The next rows."""


_Passed = TypeVar("_Passed", bound=Pass)


class _SeenOtherwise(Exception):
    """A later row shows that a column holds something else than it seemed to: begin again."""


@dataclass
class ColumnFile:
    """A file of columns, read in batches, so that no more of it is held than a few MB, whatever its size; of
    JSON lines, whose columns are seen by all of them, all of it.

    takes: which columns are read, by name. types: of a CSV file, what its columns hold as far as is known:
    `passed` settles it.
    """

    path: Path
    takes: Callable[[str], bool] = bool
    types: dict[str, pyarrow.DataType] = field(default_factory=dict)
    block: int = _BLOCK

    def passed(self, begin: Callable[[], _Passed]) -> _Passed:
        """What `begin` makes, after it was given all rows. Of a CSV file of which a later row shows that a
        column holds something else (a word after numbers), a new one is begun, so that columns are what they
        would be had all rows been looked at at once. Raises UserError as `read_columns`.
        """
        while True:
            found = begin()
            try:
                for columns in self._batches():
                    found.add(columns)
                return found
            except _SeenOtherwise:
                continue

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[Columns]:
        """The columns, at most so many rows at a time, in order; what they hold is settled before. A column
        that is EMPTY in one batch may hold numbers in another. Raises UserError as `read_columns`, and where
        the file was changed since `passed`.
        """
        try:
            yield from self._batches(rows)
        except _SeenOtherwise:
            raise changed_meanwhile(self.path) from None

    def _batches(self, rows: int = BATCH_ROWS) -> Iterator[Columns]:
        kind, some = _ending(self.path), False
        if kind == ".parquet":
            whole = self._of_parquet(rows)
        elif kind in _LINES:
            table = _jsonl(self.path)
            whole = iter([table.select(list(filter(self.takes, table.column_names)))])
        else:
            whole = self._of_csv(kind)
        for table in whole:
            _check_names(self.path, table.column_names)
            for start in range(0, table.num_rows, rows):
                some = True
                yield Columns(self.path, table.slice(start, rows))
        if not some:
            raise UserError(f"'{self.path}' has no rows")

    def _of_parquet(self, rows: int) -> Iterator[pyarrow.Table]:
        """With `read` and not through a memory map, whose pages would count as memory until its end; group
        by group, as further ones would be read ahead."""
        import pyarrow
        from pyarrow import parquet

        with said(self.path), parquet.ParquetFile(self.path, buffer_size=_BLOCK) as file:
            wanted = list(filter(self.takes, file.schema_arrow.names))
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(rows, [group], wanted, use_threads=False):
                    yield pyarrow.Table.from_batches([batch])

    def _of_csv(self, kind: str) -> Iterator[pyarrow.Table]:
        """Raises _SeenOtherwise where `types` has changed."""
        import pyarrow
        from pyarrow import csv

        names, delimiter = _header(self.path, kind)
        _check_names(self.path, names)
        missing = {shape(word) for word in NO_VALUE for shape in (str, str.upper, str.capitalize)} | {"NaN"}
        settings: dict[str, Any] = {
            "read_options": csv.ReadOptions(use_threads=False, block_size=self.block),
            "parse_options": csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            "convert_options": csv.ConvertOptions(
                null_values=sorted(missing),
                strings_can_be_null=False,
                column_types=self.types,
                include_columns=list(filter(self.takes, names)),
            ),
        }
        try:
            with csv.open_csv(self.path, **settings) as file:
                self.types = dict(zip(file.schema.names, file.schema.types, strict=True))
                if any(map(pyarrow.types.is_binary, file.schema.types)):
                    raise not_utf8(self.path)
                for batch in file:
                    yield pyarrow.Table.from_batches([batch])
        except (pyarrow.ArrowInvalid, UnicodeDecodeError) as error:
            text = str(error)
            if isinstance(error, UnicodeDecodeError) or "UTF8" in text:
                raise not_utf8(self.path) from None
            if "straddling" in text and self.block < 1 << 30:  # a row is longer than a block
                self.block *= 4
                raise _SeenOtherwise from None
            if (found := re.match(r"In CSV column #(\d+): .*conversion error", text)) is None:
                with said(self.path):
                    raise
            self._loosen(names[int(found[1])])
            raise _SeenOtherwise from None

    def _loosen(self, name: str) -> None:
        """A column may hold the next of what a CSV file can hold, in the order in which Arrow tries them."""
        import pyarrow

        order = [
            pyarrow.null(),
            pyarrow.int64(),
            pyarrow.bool_(),
            pyarrow.date32(),
            pyarrow.time32("s"),
            pyarrow.timestamp("s"),
            pyarrow.timestamp("ns"),
            pyarrow.float64(),
            pyarrow.string(),
        ]
        now = self.types[name]
        place = order.index(now) if now in order else order.index(pyarrow.timestamp("ns"))
        if now == order[-1]:  # words take everything that is UTF-8
            raise not_utf8(self.path)
        self.types = self.types | {name: order[place + 1]}


def changed_meanwhile(path: Path) -> UserError:
    """The file is another one than before."""
    return UserError(f"'{path}' was changed while it was read: run the same command again")


def ending(path: Path) -> str:
    """What kind of file it is by its name, ".csv" say; "" where kdx reads no columns from such a file."""
    named = Path(path.name.lower())
    kind = Path(named.stem).suffix if named.suffix == ".gz" else named.suffix
    return kind if kind in ENDINGS and not (kind == ".parquet" and named.suffix == ".gz") else ""


def read_columns(path: Path, only: Sequence[str] | None = None, as_text: Sequence[str] = ()) -> Columns:
    """The columns of a file, all of its rows.

    only: the names of those that are wanted, None: all. as_text: those that are text even where each value
    looks like a number or a day (a CSV or TSV file does not tell). Raises UserError where the file cannot be
    read, has no rows, or has rows of different width, names that stand twice, or bytes that are not UTF-8.
    """
    import pyarrow

    takes = bool if only is None else set(only).__contains__
    file = ColumnFile(path, takes, {name: pyarrow.string() for name in as_text})
    return Columns(path, pyarrow.concat_tables(file.passed(_Whole).tables))


class _Whole:
    """A pass that keeps all."""

    def __init__(self) -> None:
        self.tables: list[pyarrow.Table] = []

    def add(self, columns: Columns) -> None:
        self.tables.append(columns.table)


def names_in(path: Path) -> tuple[str, ...]:
    """The names of the columns, without reading the rows (of JSON lines: those of the first object)."""
    import pyarrow.parquet

    kind = _ending(path)
    if kind == ".parquet":
        with said(path):
            return tuple(pyarrow.parquet.read_schema(path).names)
    if kind in _LINES:
        import json

        try:
            with said(path):
                found = json.loads(header_line(path) or "{}")
        except UserError as error:
            raise _broken_line(path) or error from None
        if not isinstance(found, dict):
            raise UserError(f'\'{path}\' must hold an object a line, such as {{"text": ..., "label": ...}}')
        return tuple(found)
    import csv

    line = header_line(path)
    return tuple(next(csv.reader([line], delimiter=delimiter_of(line, kind)), ()))


def _ending(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"the data file '{path}' is missing")
    if not (kind := ending(path)):
        raise UserError(f"'{path}' must end with {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    return kind


def delimiter_of(line: str, kind: str) -> str:
    """Of the words of a header, outside of quotes, what stands most often between them."""
    if kind == ".tsv":
        return "\t"
    bare = "".join(line.split('"')[::2])
    return max(DELIMITERS, key=lambda mark: (bare.count(mark), -DELIMITERS.index(mark)))


def _header(path: Path, kind: str) -> tuple[Sequence[str], str]:
    """(the names of the columns, what stands between them) of a CSV or TSV file"""
    line = header_line(path)
    if not line.strip():
        raise UserError(f"'{path}' has no header: its first line is empty, and should hold names of columns")
    names = names_in(path)
    if names and all(reads_as_number(name) for name in names):
        raise UserError(
            f"'{path}' has no header: its first line holds numbers ({name_some(names, 4)}), and should hold "
            "the names of the columns"
        )
    return names, delimiter_of(line, kind)


def _check_names(path: Path, names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"'{path}' has two columns that are called '{twice[0]}': rename one")


def _jsonl(path: Path) -> pyarrow.Table:
    from pyarrow import json

    size = min(max(path.stat().st_size, 1 << 20), 1 << 28)
    try:
        with said(path):
            table = json.read_json(path, read_options=json.ReadOptions(block_size=size))
    except UserError as error:
        raise _broken_line(path) or error from None
    try:
        table.validate(full=True)  # the reader lets bytes pass that are not UTF-8
    except ValueError:
        raise not_utf8(path) from None
    return table


def _broken_line(path: Path) -> UserError | None:
    """The first line that is no object, or in which a column holds another kind of thing than before: Arrow
    names no line. None: there is none.
    """
    import json

    kinds: dict[str, tuple[type, int]] = {}
    with said(path), open_file(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                found = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError:
                return not_utf8(path)
            except ValueError as error:
                return UserError(
                    f"line {number:,} of '{path}' is no JSON object: {error}; write an object a line"
                )
            if not isinstance(found, dict):
                return UserError(f"line {number:,} of '{path}' is no JSON object: write an object a line")
            for name, value in found.items():
                kind: type = float if type(value) is int else type(value)
                before, where = kinds.setdefault(name, (kind, number)) if value is not None else (kind, 0)
                if before is not kind:
                    return UserError(
                        f"line {number:,} of '{path}' has {_JSON_KINDS[kind]} in '{name}', and line "
                        f"{where:,} {_JSON_KINDS[before]}: a column holds one kind of value"
                    )
    return None
