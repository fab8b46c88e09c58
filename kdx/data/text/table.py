"""Texts in a column of a file, their classes in another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdx.core.errors import UserError, nearest
from kdx.data.columns import EMPTY, NUMBER, TIME, WORD, Column, names_in, read_columns

PLAIN_TEXT = (
    "text texts sentence sentences review document content body message comment tweet post gloss".split()
)
PLAIN_LABEL = "label labels class classes category target sentiment topic label_text y".split()
"""Names of columns that are plain enough to be taken without being asked for, the plainest first."""
_HOLDS = {NUMBER: "numbers", TIME: "days or times"}


@dataclass(frozen=True)
class TextTable:
    """N rows: texts, None where there is none; classes by name, None where there is none. names: the columns
    that were read, text and class.
    """

    texts: Sequence[str | None]
    classes: Sequence[str | None]
    names: tuple[str, str | None]


def read_text_table(path: Path, text: str | None, label: str | None, labelled: bool = True) -> TextTable:
    """text, label: names of columns, None: found by their names. labelled: whether classes are read. Raises
    UserError where such columns cannot be known or the texts are none.
    """
    known = names_in(path)
    wanted = chosen(path, known, text, PLAIN_TEXT, "dataset.text")
    beside = chosen(path, known, label, PLAIN_LABEL, "dataset.label") if labelled else None
    if wanted == beside:
        raise UserError(f"dataset.text and dataset.label both name '{wanted}': name two columns")
    columns = read_columns(path, [name for name in (wanted, beside) if name])
    column = columns.column(wanted, "dataset.text")
    if column.kind not in (WORD, EMPTY):
        holds = _HOLDS.get(column.kind, "no text")
        raise UserError(
            f"the column '{wanted}' of '{path}' holds {holds}{_example(column)}, and not text: name another "
            f"with dataset.text=COLUMN; there are {_list(known)}"
        )
    classes = columns.column(beside, "dataset.label").words() if beside else [None] * len(column)
    return TextTable(column.text(), classes, (wanted, beside))


def chosen(path: Path, known: Sequence[str], asked: str | None, plain: Sequence[str], key: str) -> str:
    """The name of the column that a key names, or of the one whose name is plain."""
    if asked is not None:
        if asked not in known:
            close = nearest(asked, known)
            meant = close if "did you mean" in close else ""
            raise UserError(f"{key}={asked}, and '{path}' has no such column: it has {_list(known)}{meant}")
        return asked
    small = {name.strip().lower(): name for name in reversed(known)}
    for name in plain:
        if name in small:
            return small[name]
    if not known:
        raise UserError(f"'{path}' is empty: it has no columns")
    what = "the texts" if key.endswith("text") else "the classes"
    raise UserError(
        f"no column of '{path}' has a name that tells that it holds {what}: set {key}=COLUMN; there are "
        f"{_list(known)}"
    )


def sorted_classes(found: Mapping[str, int]) -> list[str]:
    """In the order of the alphabet, numbers in that of numbers."""
    try:
        return sorted(found, key=lambda name: (float(name), name))
    except ValueError:
        return sorted(found)


def _example(column: Column) -> str:
    value = next((value for value in column.text() if value is not None), None)
    return "" if value is None else f" ({value[:40]}, say)"


def _list(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
