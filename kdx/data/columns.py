"""Files of columns, read by pyarrow: CSV, TSV, JSON lines and Parquet. What a column holds (numbers, words,
days) is seen by its values, and missing ones are missing whatever they are called.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdx.core import shortage
from kdx.core.errors import UserError, nearest

if TYPE_CHECKING:
    import pyarrow

DELIMITERS = ",;\t|"
ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Of files that can be read; all but Parquet may be packed with gzip and end with .gz too."""
NO_VALUE = ("", "?", "-", "na", "n/a", "nan", "null", "none")
"""Words that stand for a value that is missing, in small letters; quoted or not."""
NUMBER, FLAG, WORD, TIME, EMPTY, OTHER = "number", "flag", "word", "time", "empty", "other"
"""What a column can hold: numbers; true and false; words; days or times; nothing but missing values; or what
is none of these, such as a list in each row.
"""


@dataclass(frozen=True, eq=False)
class Column:
    """One column. kind: one of NUMBER, FLAG, WORD, TIME, EMPTY, OTHER."""

    name: str
    kind: str
    values: pyarrow.ChunkedArray

    def __len__(self) -> int:
        return len(self.values)

    def numbers(self) -> np.ndarray:
        """(N,) float64, nan where a value is missing; flags are 0 and 1. Of NUMBER, FLAG and EMPTY only."""
        import pyarrow

        if self.kind == EMPTY:
            return np.full(len(self), np.nan)
        if self.kind not in (NUMBER, FLAG):
            raise TypeError(f"the column '{self.name}' holds no numbers: {self.kind}")
        values = self.values.cast(pyarrow.int8()) if self.kind == FLAG else self.values
        return values.cast(pyarrow.float64(), safe=False).to_numpy().astype(np.float64)

    def words(self) -> list[str | None]:
        """Each value as a word, None where it is missing: 3 and 3.0 are "3", true is "true". For classes and
        categories.
        """
        return [None if word is None or word.strip().lower() in NO_VALUE else word for word in self.text()]

    def text(self) -> list[str | None]:
        """Each value as it stands, with all its spaces, None only where there is none at all."""
        if self.kind == EMPTY:
            return [None] * len(self)
        if self.kind == NUMBER:
            return [
                None if value is None or value != value else plain_number(value) for value in self._listed()
            ]
        if self.kind == FLAG:
            return [None if value is None else str(value).lower() for value in self._listed()]
        return [None if value is None else str(value) for value in self._listed()]

    def _listed(self) -> list[Any]:
        return self.values.to_pylist()


@dataclass(frozen=True, eq=False)
class Columns(Mapping[str, Column]):
    """The columns of a file, in its order."""

    path: Path
    table: pyarrow.Table

    @property
    def rows(self) -> int:
        return self.table.num_rows

    def __getitem__(self, name: str) -> Column:
        values = self.table.column(name)
        return Column(name, _kind(values), values)

    def __iter__(self) -> Iterator[str]:
        return iter(self.table.column_names)

    def __len__(self) -> int:
        return self.table.num_columns

    def column(self, name: str, key: str) -> Column:
        """The column that a key of the data set, such as "dataset.target", names; else a UserError that lists
        those that there are.
        """
        if name not in self.table.column_names:
            raise UserError(
                f"{key}={name}, and '{self.path}' has no such column{nearest(name, list(self))}; "
                f"it has {_listed(list(self))}"
            )
        return self[name]


def ending(path: Path) -> str:
    """What kind of file it is by its name, ".csv" say; "" where kdx reads no columns from such a file."""
    named = Path(path.name.lower())
    kind = Path(named.stem).suffix if named.suffix == ".gz" else named.suffix
    return kind if kind in ENDINGS and not (kind == ".parquet" and named.suffix == ".gz") else ""


def read_columns(path: Path, only: Sequence[str] | None = None, as_text: Sequence[str] = ()) -> Columns:
    """The columns of a file, a Parquet file's by way of a memory map.

    only: the names of those that are wanted, None: all. as_text: those that are text even where each value
    looks like a number or a day (a CSV or TSV file does not tell). Raises UserError where the file cannot be
    read, has no rows, or has rows of different width, names that stand twice, or bytes that are not UTF-8.
    """
    readers = {".parquet": _parquet, ".jsonl": _jsonl, ".ndjson": _jsonl}
    kind = _ending(path)
    if kind in readers:
        table = readers[kind](path, only)
    else:
        table = _csv(path, kind, as_text)
        table = table if only is None else table.select([name for name in table.column_names if name in only])
    names = table.column_names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"'{path}' has two columns that are called '{twice[0]}': rename one")
    if table.num_rows == 0:
        raise UserError(f"'{path}' has no rows")
    return Columns(path, table)


def column_batches(path: Path, only: Sequence[str] | None = None, rows: int = 1 << 16) -> Iterator[Columns]:
    """The columns of a file, at most so many rows at a time, in order: for files that are larger than memory,
    written on block by block (kdx.data.stored). Of a Parquet file no more than a row group is held, and it is
    read with `read` and not through a memory map, whose pages would count as memory until its end; files of
    text are read whole, as what a column holds is seen by all of its values. only, UserError: as
    `read_columns`; a column that is EMPTY in one batch may hold numbers in another.
    """
    if _ending(path) != ".parquet":
        found = read_columns(path, only)
        for start in range(0, found.rows, rows):
            yield Columns(path, found.table.slice(start, rows))
        return
    from pyarrow import parquet

    with said(path), parquet.ParquetFile(path) as file:
        if not file.metadata.num_rows:
            raise UserError(f"'{path}' has no rows")
        wanted = [name for name in file.schema_arrow.names if only is None or name in only]
        for group in range(file.num_row_groups):  # `iter_batches` reads further groups ahead
            table = file.read_row_group(group, columns=wanted, use_threads=False)
            for start in range(0, table.num_rows, rows):
                yield Columns(path, table.slice(start, rows))


def names_in(path: Path) -> tuple[str, ...]:
    """The names of the columns, without reading the rows (of JSON lines: those of the first object)."""
    import pyarrow.parquet

    kind = _ending(path)
    if kind == ".parquet":
        with said(path):
            return tuple(pyarrow.parquet.read_schema(path).names)
    if kind in (".jsonl", ".ndjson"):
        import json

        with said(path):
            found = json.loads(header_line(path) or "{}")
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


def plain_number(value: Any) -> str:
    """3 and 3.0 are "3"."""
    return str(int(value)) if value == value // 1 and abs(value) < 2**53 else repr(float(value))


def _kind(values: pyarrow.ChunkedArray) -> str:
    from pyarrow import types

    form = values.type
    inner = form.value_type if types.is_dictionary(form) else form
    if types.is_null(inner) or values.null_count == len(values):
        return EMPTY
    if types.is_boolean(inner):
        return FLAG
    if types.is_integer(inner) or types.is_floating(inner) or types.is_decimal(inner):
        return NUMBER
    if types.is_string(inner) or types.is_large_string(inner):
        return WORD
    return TIME if types.is_temporal(inner) else OTHER


def _listed(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


class said:
    """What pyarrow or the system says of a file, as a UserError that names it."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, UnicodeDecodeError):
            raise _not_utf8(self.path) from None
        if not isinstance(error, (ValueError, OSError, EOFError)) or isinstance(error, UserError):
            return  # ArrowInvalid is a ValueError, and so is what json raises
        if shortage.kind_of_shortage(error):
            return
        why = " ".join(str(error).split())
        raise UserError(f"'{self.path}' cannot be read: {why[:200]}") from None


def _open(path: Path) -> Any:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def header_line(path: Path) -> str:
    """Of a file of text, packed or not, without its end."""
    with said(path), _open(path) as file:
        return file.readline(1 << 20).decode("utf-8-sig").rstrip("\r\n")


def _not_utf8(path: Path) -> UserError:
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                part = line[max(0, error.start - 10) : error.end + 10].decode("latin-1")
                return UserError(
                    f"'{path}' is not UTF-8: line {number} has the byte 0x{line[error.start]:02x} near "
                    f"{part!r}: save it as UTF-8"
                )
    return UserError(f"'{path}' is not UTF-8: save it as UTF-8")


def delimiter_of(line: str, kind: str) -> str:
    """Of the words of a header, outside of quotes, what stands most often between them."""
    if kind == ".tsv":
        return "\t"
    bare = "".join(line.split('"')[::2])
    return max(DELIMITERS, key=lambda mark: (bare.count(mark), -DELIMITERS.index(mark)))


def _csv(path: Path, kind: str, as_text: Sequence[str]) -> pyarrow.Table:
    import pyarrow
    from pyarrow import csv

    line = header_line(path)
    if not line.strip():
        raise UserError(f"'{path}' has no header: its first line is empty, and should hold names of columns")
    delimiter = delimiter_of(line, kind)
    names = names_in(path)
    if names and all(reads_as_number(name) for name in names):
        raise UserError(
            f"'{path}' has no header: its first line holds numbers ({_listed(names, 4)}), and should hold "
            "the names of the columns"
        )
    missing = sorted(
        {shape(word) for word in NO_VALUE for shape in (str, str.upper, str.capitalize)} | {"NaN"}
    )
    settings: dict[str, Any] = {
        "parse_options": csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        "convert_options": csv.ConvertOptions(
            null_values=missing,
            strings_can_be_null=False,
            column_types={name: pyarrow.string() for name in as_text},
        ),
    }
    try:
        table = csv.read_csv(path, **settings)
    except (pyarrow.ArrowInvalid, UnicodeDecodeError) as error:
        if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error):
            raise _not_utf8(path) from None
        with said(path):  # once more, in order, for the number of the row
            csv.read_csv(path, read_options=csv.ReadOptions(use_threads=False), **settings)
        raise
    if any(pyarrow.types.is_binary(form) for form in table.schema.types):
        raise _not_utf8(path)
    return table


def reads_as_number(word: str) -> bool:
    """Whether a word can be read as a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def _jsonl(path: Path, only: Sequence[str] | None) -> pyarrow.Table:
    from pyarrow import json

    with said(path):
        size = min(max(path.stat().st_size, 1 << 20), 1 << 28)
        table = json.read_json(path, read_options=json.ReadOptions(block_size=size))
    try:
        table.validate(full=True)  # the reader lets bytes pass that are not UTF-8
    except ValueError:
        raise _not_utf8(path) from None
    return table if only is None else table.select([name for name in table.column_names if name in only])


def _parquet(path: Path, only: Sequence[str] | None) -> pyarrow.Table:
    from pyarrow import parquet

    with said(path):
        known = parquet.read_schema(path).names
        wanted = known if only is None else [name for name in known if name in only]
        return parquet.read_table(path, columns=wanted, memory_map=True)
