"""What the columns of a file hold (numbers, words, days), which is seen by their values; missing ones are
missing whatever they are called.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdx.core import checks
from kdx.core.errors import UserError, nearest

if TYPE_CHECKING:
    import pyarrow

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
        """Each value as a word, None where it is missing: 3 and 3.0 are "3", true and TRUE are "true", in
        columns of words too. For classes and categories.
        """
        return [None if word is None else plain_word(word) for word in self.text()]

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
        need_column(self.path, self.table.column_names, name, key)
        return self[name]


def names_of_columns(key: str, value: Any) -> tuple[str, ...]:
    """One name or several."""
    several = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(several, list | tuple) or not all(isinstance(name, str) and name for name in several):
        raise UserError(
            f"dataset.{key} must name a column, or several such as dataset.{key}=[a,b]; given: "
            f"{checks.shown(value)}"
        )
    return tuple(several)


def need_column(path: Path, names: Sequence[str], name: str, key: str) -> None:
    """Raises UserError where a file has no such column as a key of the data set, "dataset.target" say, names:
    with those that there are.
    """
    if name not in names:
        raise UserError(
            f"{key}={name}, and '{path}' has no such column{nearest(name, names)}; it has {name_some(names)}"
        )


def kind_of(kinds: Collection[str]) -> str:
    """What a column is of which batches, or files, hold these."""
    known = set(kinds) - {EMPTY}
    for kind in (OTHER, TIME, WORD, NUMBER, FLAG):
        if kind in known:
            return kind
    return EMPTY


def reads_as_number(word: str) -> bool:
    """Whether a word can be read as a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True


_DECIMAL = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]\d+)?\s*", re.IGNORECASE | re.ASCII)


def plain_word(word: str) -> str | None:
    """A word as classes and categories have it, None where it stands for a missing value: a number and a flag
    are written alike whether the column has other words beside them or not (3, 3.0 and 03 are "3").
    """
    small = word.strip().lower()
    if small in NO_VALUE:
        return None
    if small in ("true", "false"):
        return small
    if not _DECIMAL.fullmatch(word):
        return word
    whole = small.lstrip("+-").isdigit()
    return str(int(small)) if whole else plain_number(float(small))


def plain_number(value: Any) -> str:
    """3 and 3.0 are "3"."""
    if isinstance(value, int):
        return str(value)
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
    views = getattr(types, "is_string_view", None)  # newer than the oldest pyarrow that kdx takes
    if types.is_string(inner) or types.is_large_string(inner) or (views and views(inner)):
        return WORD
    return TIME if types.is_temporal(inner) else OTHER


def name_some(names: Sequence[str], most: int = 12) -> str:
    """The first of the names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
