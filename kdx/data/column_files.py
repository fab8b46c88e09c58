"""Files of columns read by pyarrow: CSV, TSV, JSON lines and Parquet, whole or a batch of rows at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kdx.core.errors import UserError
from kdx.data.columns import NO_VALUE, Columns, name_some, reads_as_number
from kdx.data.jsonl import SeenOtherwise, broken_line, tables_of_lines
from kdx.data.opening import header_line, not_utf8, quoted_header, said
from kdx.data.quotes import check_quotes

if TYPE_CHECKING:
    import pyarrow

DELIMITERS = ",;\t|"
ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Of files that can be read; all but Parquet may be packed with gzip and end with .gz too."""
BATCH_ROWS = 1 << 16
_BLOCK = 1 << 21
"""Bytes of CSV or JSON lines that are looked at together; by the first so many what columns hold is guessed.
"""
_LINES = (".jsonl", ".ndjson")


class Pass(Protocol):
    """What looks at a file from its first row to its last."""

    def add(self, columns: Columns) -> None:
        """The next rows."""


_Passed = TypeVar("_Passed", bound=Pass)


@dataclass
class ColumnFile:
    """A file of columns, read in batches, so that no more of it is held than a few MB, whatever its size.

    takes: which columns are read, by name. types: of a CSV file, what its columns hold as far as is known;
    lines: the same of all columns of JSON lines. `passed` settles it.
    """

    path: Path
    takes: Callable[[str], bool] = bool
    types: dict[str, pyarrow.DataType] = field(default_factory=dict)
    lines: dict[str, pyarrow.DataType] = field(default_factory=dict)
    block: int = _BLOCK

    def passed(self, begin: Callable[[], _Passed]) -> _Passed:
        """What `begin` makes, after it was given all rows. Where a later row of CSV or JSON lines shows that
        a column holds something else (a word after numbers), a new one is begun, so that columns are what
        they would be had all rows been looked at at once. Raises UserError as `read_columns`.
        """
        while True:
            found = begin()
            try:
                for columns in self._batches():
                    found.add(columns)
                self._check_quotes()
                return found
            except SeenOtherwise:
                continue

    def as_words(self, names: Collection[str]) -> ColumnFile:
        """The file, of which these columns are read as the words that stand there: of CSV and TSV, whose
        numbers and days would be made out else; other files say what they hold."""
        import pyarrow

        if _ending(self.path) == ".parquet" or _ending(self.path) in _LINES or not names:
            return self
        return replace(self, types={**self.types, **dict.fromkeys(names, pyarrow.string())})

    def _check_quotes(self) -> None:
        kind = _ending(self.path)
        if kind != ".parquet" and kind not in _LINES:
            with said(self.path):
                check_quotes(self.path, _header(self.path, kind)[1])

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[Columns]:
        """The columns, at most so many rows at a time, in order; what they hold is settled before. A column
        that is EMPTY in one batch may hold numbers in another. Raises UserError as `read_columns`, and where
        the file was changed since `passed`.
        """
        try:
            yield from self._batches(rows)
        except SeenOtherwise:
            raise changed_meanwhile(self.path) from None

    def _batches(self, rows: int = BATCH_ROWS) -> Iterator[Columns]:
        kind, some = _ending(self.path), False
        if kind == ".parquet":
            whole = self._of_parquet(rows)
        elif kind in _LINES:
            whole = (
                table.select(list(filter(self.takes, table.column_names)))
                for table in tables_of_lines(self.path, self.block, self.lines)
            )
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
                    table = pyarrow.Table.from_batches([batch])
                    _check_letters(self.path, table)
                    yield table

    def _of_csv(self, kind: str) -> Iterator[pyarrow.Table]:
        """Raises SeenOtherwise where `types` has changed."""
        import pyarrow
        from pyarrow import csv

        names, delimiter = _header(self.path, kind)
        _check_names(self.path, names)
        missing = {shape(word) for word in NO_VALUE for shape in (str, str.upper, str.capitalize)} | {"NaN"}
        settings: dict[str, Any] = {
            "read_options": csv.ReadOptions(
                use_threads=False, block_size=self.block, column_names=names, skip_rows_after_names=1
            ),
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
                raise SeenOtherwise from None
            if (found := re.match(r"In CSV column #(\d+): .*conversion error", text)) is None:
                with said(self.path):
                    raise
            self._loosen(names[int(found[1])])
            raise SeenOtherwise from None

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


def _check_letters(path: Path, table: pyarrow.Table) -> None:
    """Raises UserError where words of a Parquet file are no UTF-8, which such a file only promises."""
    import pyarrow

    for name in table.column_names:
        column = table.column(name)
        if not (pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type)):
            continue
        try:
            column.validate(full=True)
        except pyarrow.ArrowInvalid:
            raise UserError(
                f"'{path}' is not UTF-8: its column '{name}' holds bytes that are no letters: write the file "
                "anew from text"
            ) from None


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
            raise broken_line(path) or error from None
        if not isinstance(found, dict):
            raise UserError(f'\'{path}\' must hold an object a line, such as {{"text": ..., "label": ...}}')
        return tuple(found)
    import csv
    import io

    text = quoted_header(path)
    found = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text, kind))
    return tuple(name if name.strip() else nameless(place) for place, name in enumerate(next(found, ())))


def nameless(place: int) -> str:
    """What a column is called whose name in the header is empty, as that of the index that pandas writes.
    place: from 0."""
    return f"column_{place + 1}"


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
    text = quoted_header(path)
    if not text.splitlines()[:1] or not text.splitlines()[0].strip():
        raise UserError(f"'{path}' has no header: its first line is empty, and should hold names of columns")
    names = names_in(path)
    if names and all(reads_as_number(name) for name in names):
        raise UserError(
            f"'{path}' has no header: its first line holds numbers ({name_some(names, 4)}), and should hold "
            "the names of the columns"
        )
    return names, delimiter_of(text, kind)


def _check_names(path: Path, names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"'{path}' has two columns that are called '{twice[0]}': rename one")
