"""The column of a table that is to be predicted: what it is, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.data.columns import EMPTY, FLAG, NUMBER, WORD, Columns, name_some, need_column
from kdx.data.phrases import few
from kdx.data.raw import Note
from kdx.data.tables.overview import MOST_CLASSES, Looked, Numbers, Overview, count_words
from kdx.data.tables.rows import CLASSES_TASK, NUMBERS_TASK

IDENTIFIES = 0.9
"""A column with so many different words for its rows tells of each row by itself."""
FEW = 20
"""In so few rows nothing can be said of that."""
_LOST = 0.02
"""The share of a column's deviation that float32 may round away: more is said."""


@dataclass(frozen=True)
class Target:
    """names: of its columns. classes: in the order of their numbers, None: it is numbers. counts: of the part
    to train with, how many rows each class has, None: it is numbers.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...] | None
    counts: Mapping[str, int] | None = None

    @property
    def task(self) -> dict[str, Any]:
        if self.classes is None:
            return {"_target_": NUMBERS_TASK, "names": list(self.names)}
        return {"_target_": CLASSES_TASK, "classes": list(self.classes)}

    def truth(self, columns: Columns) -> np.ndarray:
        """(N,) int64 classes, -1 where there is none; or (N, K) float32 numbers, nan where there is none."""
        if self.classes is None:
            return np.stack([columns[name].numbers() for name in self.names], 1).astype(np.float32)
        code = {word: place for place, word in enumerate(self.classes)}
        words = columns[self.names[0]].words()
        return np.array([-1 if word is None else code[word] for word in words], np.int64)


def read_target(parts: Mapping[str, Overview], names: Sequence[str], kind: str, notes: list[Note]) -> Target:
    """parts: of the files, "train" among them. kind: "auto", "classes" or "numbers"; what was not said is
    seen, and said in `notes`. Raises UserError where it cannot be predicted.
    """
    with_truth = {part: held for part, held in parts.items() if part != "unlabelled"}
    for held in with_truth.values():
        for name in names:
            need_column(held.path, held.names, name, "dataset.target")
    if (_kind(with_truth["train"], names, notes) if kind == "auto" else kind) == "numbers":
        for part, held in with_truth.items():
            for name in names:
                _check_numbers(held, name, part)
        return Target(tuple(names), None)
    if len(names) > 1:
        raise UserError(
            f"dataset.target names {len(names)} columns, and classes are in one: set "
            "dataset.kind=numbers, or name one"
        )
    return _classes(with_truth, names[0])


def _classes(with_truth: Mapping[str, Overview], name: str) -> Target:
    train = with_truth["train"]
    looked = train.columns[name]
    _check_few(train, looked)
    words = {part: _counted(held, name, looked.kind) for part, held in with_truth.items()}
    classes = _sorted(set(words["train"]))
    if len(classes) < 2:
        raise UserError(
            f"the target '{name}' of '{train.path}' has {len(classes)} different "
            f"value{'' if len(classes) == 1 else 's'}: there is nothing to tell apart"
        )
    for part, found in words.items():
        if foreign := sorted(set(found) - set(classes)):
            raise UserError(
                f"'{with_truth[part].path}' has rows of the class {few(foreign)}, of which "
                f"'{train.path}' has none"
            )
    return Target((name,), tuple(classes), words["train"])


def _check_few(train: Overview, looked: Looked) -> None:
    """Raises UserError where nearly every row has a class of its own."""
    words = looked.words
    if words.known >= FEW and words.many() > IDENTIFIES * words.known:
        others = [name for name in train.names if name != looked.name]
        what, number = ("words", "")
        if looked.kind == NUMBER:
            what, number = "numbers", "; or set dataset.kind=numbers"
        raise UserError(
            f"the target '{looked.name}' of '{train.path}' has {words.many():,} different {what} in "
            f"{words.known:,} rows, as a text or an identifier has, and no classes to be learned: name "
            f"another column with dataset.target=COLUMN; there {'is' if len(others) == 1 else 'are'} "
            f"{name_some(others)}{number}"
        )


def _counted(held: Overview, name: str, kind: str) -> Counter[str]:
    """kind: of the column in the file to train with: what is words there is read as words everywhere."""
    looked = held.columns[name]
    counts = looked.words.counts if looked.kind == kind else None
    return count_words(held.file, name) if counts is None else counts


def _kind(train: Overview, names: Sequence[str], notes: list[Note]) -> str:
    """ "classes" or "numbers" """
    columns = [train.columns[name] for name in names]
    for column in columns:
        if stray := stray_of(column):
            raise UserError(
                f"the target '{column.name}' of '{train.path}' holds numbers, but {stray}: put a "
                "number or nothing there, or set dataset.kind=classes"
            )
    if len(columns) > 1:
        return "numbers"
    (column,) = columns
    if column.kind != NUMBER:
        return "classes"
    different = column.words.many()
    kind, other = ("numbers", "classes") if different > MOST_CLASSES else ("classes", "numbers")
    notes.append(
        (
            f"the target {column.name} has {different:,} different numbers and is taken for {kind} "
            f"(dataset.kind={other} otherwise)",
            "info",
        )
    )
    return kind


def _check_numbers(held: Overview, name: str, part: str) -> None:
    column = held.columns[name]
    called = f"the target '{name}' of '{held.path}'"
    if column.kind not in (NUMBER, FLAG, EMPTY):
        stray = stray_words(column) if part != "train" and column.words.strays else stray_of(column)
        holds = "words" if column.kind == WORD else "no numbers"
        raise UserError(
            f"{called} holds {holds}{f' ({stray})' if stray else ''}: set "
            "dataset.kind=classes, or choose another dataset.target"
        )
    check_finite_target(column.numbers, called)
    if part == "train" and (close := too_close(column.numbers)):
        raise UserError(f"the numbers of {called} {close}")


def check_finite_target(numbers: Numbers, called: str) -> None:
    """Raises UserError where one is infinite, or would be as a row holds it."""
    if numbers.beyond:
        raise UserError(
            f"{called} is {numbers.value:g} in row {numbers.first + 1:,}{_more(numbers.beyond)}, and rows "
            f"hold numbers up to {np.finfo(np.float32).max:.1e}: put another number or nothing there"
        )


def too_close(numbers: Numbers) -> str:
    """What is wrong with numbers that lie closer together than float32 can tell apart, "" where it can."""
    spread = numbers.std
    if not 0 < spread < np.inf:
        return ""
    lost = np.sqrt(numbers.lost / numbers.known)
    if lost <= _LOST * spread:
        return ""
    return (
        f"lie too close together around {numbers.mean:g} (their deviation is {spread:.3g}) for the 32 bits "
        f"that rows hold: of that {min(1.0, lost / spread):.0%} is lost; subtract {numbers.low:.10g} from "
        "them, say"
    )


def stray_of(column: Looked) -> str:
    """ "row 8 has 'unknown'" of words most of which are numbers, more different ones than classes are; else
    "". JSON lines can have all of them in quotes.
    """
    words = column.words
    if column.kind != WORD or words.numeric * 2 <= words.known or len(words.numeric_kinds) <= MOST_CLASSES:
        return ""
    if not words.strays:
        return "they are in quotes"
    return stray_words(column)


def stray_words(column: Looked) -> str:
    """ "row 8 has 'unknown' (and 2 more)": the first of its words that is no number."""
    words = column.words
    return f"row {words.first + 1:,} has '{words.stray}'{_more(words.strays)}"


def _more(count: int) -> str:
    return f" (and {count - 1:,} more)" if count > 1 else ""


def _sorted(words: set[str]) -> list[str]:
    """By number where all are numbers."""
    try:
        return sorted(words, key=float)
    except ValueError:
        return sorted(words)
