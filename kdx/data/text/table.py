"""Texts in a column of a file, their classes in another: looked at once, then read a batch at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kdx.core import snapshot
from kdx.core.errors import UserError, nearest
from kdx.data.column_files import ColumnFile, changed_meanwhile, names_in
from kdx.data.columns import EMPTY, FLAG, NUMBER, TIME, WORD, Columns, kind_of
from kdx.data.phrases import counted, few
from kdx.data.raw import Note, RowNames
from kdx.data.text.rows import Part

PLAIN_TEXT = (
    "text texts sentence sentences review document content body message comment tweet post gloss".split()
)
PLAIN_LABEL = "label labels class classes category target sentiment topic label_text y".split()
"""Names of columns that are plain enough to be taken without being asked for, the plainest first."""
_HOLDS = {NUMBER: "numbers", FLAG: "true and false", TIME: "days or times"}


@dataclass
class TextTable:
    """A file of N rows. names: the columns of texts and of classes, None: there is none. classes: how many
    rows each has; unknown: rows without one. letters: of all texts, in UTF-8, at most.
    """

    file: ColumnFile
    names: tuple[str, str | None]
    rows: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    letters: int = 0
    kinds: set[str] = field(default_factory=set)
    example: str = ""

    @property
    def path(self) -> Path:
        return self.file.path

    def add(self, columns: Columns) -> None:
        text, label = self.names
        column = columns.column(text, "dataset.text")
        self.kinds.add(column.kind)
        self.example = self.example or next(filter(None, column.text()), "")
        self.letters += column.values.nbytes
        self.rows += columns.rows
        found = Counter(columns.column(label, "dataset.label").words()) if label else Counter()
        self.unknown += found.pop(None, 0) if label else columns.rows
        self.classes.update(found)  # type: ignore[arg-type]

    def batches(self) -> Iterator[tuple[list[str | None], list[str | None]]]:
        """(texts, None where there is none; classes by name, None where there is none)"""
        text, label = self.names
        for columns in self.file.batches():
            texts = columns[text].text()
            yield texts, columns[label].words() if label else [None] * len(texts)


def read_text_table(path: Path, text: str | None, label: str | None, labelled: bool = True) -> TextTable:
    """What is known of a file of columns once all of it was looked at; inside one command that is once.

    text, label: names of columns, None: found by their names. labelled: whether classes are read. Raises
    UserError where such columns cannot be known or the texts are none.
    """
    known = names_in(path)
    wanted = chosen(path, known, text, PLAIN_TEXT, "dataset.text")
    beside = chosen(path, known, label, PLAIN_LABEL, "dataset.label") if labelled else None
    if wanted == beside:
        raise UserError(f"dataset.text and dataset.label both name '{wanted}': name two columns")

    def look() -> TextTable:
        file = ColumnFile(path, {wanted, beside}.__contains__)
        return file.passed(lambda: TextTable(file, (wanted, beside)))

    key = ("texts looked at", str(path), wanted, beside)
    found = snapshot.while_same(key, str(path), look, lambda found: True)
    if (kind := kind_of(found.kinds)) not in (WORD, EMPTY):
        example = f" ({found.example[:40]}, say)" if found.example else ""
        raise UserError(
            f"the column '{wanted}' of '{path}' holds {_HOLDS.get(kind, 'lists, bytes or the like')}"
            f"{example}, and no text: name another with dataset.text=COLUMN; there are {_list(known)}"
        )
    return found


@dataclass(frozen=True)
class TextTables:
    """Files of columns, by part. classes: in the order of their numbers."""

    parts: Mapping[str, TextTable]
    classes: Sequence[str]
    notes: Sequence[Note]

    def rows(self) -> dict[str, int]:
        """Of each part; those of train without a class are in the pool, others are left out."""
        found = {name: of.rows - of.unknown for name, of in self.parts.items() if name != "unlabelled"}
        pool = self.parts["train"].unknown
        pool += self.parts["unlabelled"].rows if "unlabelled" in self.parts else 0
        return found | ({"unlabelled": pool} if pool else {})

    def batches(self) -> Iterator[tuple[str, Part]]:
        numbers = {name: number for number, name in enumerate(self.classes)}
        for name, table in self.parts.items():
            for whole in batches_of(table, numbers):
                known = whole.labels >= 0
                if name != "unlabelled":
                    yield name, _picked(whole, np.flatnonzero(known))
                if name in ("train", "unlabelled") and not known.all():
                    yield "unlabelled", _picked(whole, np.flatnonzero(~known))


def tables_of(read: Mapping[str, TextTable]) -> TextTables:
    """read: the files by part. Raises UserError where classes are none, or not those of the part to train
    with.
    """
    train = read["train"]
    classes = sorted_classes(train.classes)
    _check_classes(train, classes)
    text, label = train.names
    notes: list[Note] = [(f"texts are in the column '{text}', classes in '{label}'", "info")]
    for part, table in read.items():
        if strange := sorted(set(table.classes) - set(classes)):
            raise UserError(
                f"'{table.path}' has rows of a class that the part to train with does not have"
                f"{nearest(strange[0], classes)}"
            )
        if table.unknown and part == "train":
            are = "is" if table.unknown == 1 else "are"
            notes.append((f"{counted(table.unknown, 'row')} without a class {are} the pool", "info"))
        elif table.unknown and part != "unlabelled":
            have, are = ("has", "is") if table.unknown == 1 else ("have", "are")
            rows = counted(table.unknown, "row")
            notes.append((f"{rows} of the {part} part {have} no class, and {are} left out", "warning"))
    return TextTables(read, classes, notes)


def _check_classes(train: TextTable, classes: Sequence[str]) -> None:
    """Raises UserError where these are no classes."""
    column = f"the column '{train.names[1]}' of '{train.path}' names"
    if len(classes) < 2:
        raise UserError(
            f"{column} {len(classes)} class{'es' * (len(classes) != 1)}, and two are needed: name another "
            "with dataset.label=COLUMN"
        )
    if len(classes) > max(100, train.rows // 2):
        raise UserError(
            f"{column} {len(classes):,} classes in {train.rows:,} rows ({few(classes)}): name another with "
            "dataset.label=COLUMN"
        )


def batches_of(table: TextTable, numbers: Mapping[str, int], before: str = "") -> Iterator[Part]:
    """The rows of a file. numbers: of the classes. before: what stands before the file's name."""
    done = 0
    for texts, classes in table.batches():
        try:
            labels = np.array([-1 if name is None else numbers[name] for name in classes], np.int64)
        except KeyError:
            raise changed_meanwhile(table.path) from None
        rows = np.arange(done, done + len(labels))
        done += len(labels)
        yield Part([bare(text) for text in texts], labels, RowNames((before + table.path.name,), (rows,)))


def _picked(part: Part, rows: np.ndarray) -> Part:
    """These rows."""
    assert isinstance(part.names, RowNames)
    names = RowNames(part.names.files, (part.names.numbers[0][rows],))
    return Part([part.texts[i] for i in rows], part.labels[rows], names)


def bare(text: str | None) -> str:
    """A text without the spaces around it; an empty one where there is none."""
    return "" if text is None else text.strip()


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


def _list(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
