"""Files of columns as a table: which columns are numbers, which categories, which are left out, and what is
to be predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kdx.core.errors import UserError
from kdx.data.columns import EMPTY, FLAG, NUMBER, OTHER, TIME, WORD, Column, Columns, reads_as_number
from kdx.data.phrases import few
from kdx.data.raw import Note
from kdx.data.tables import rows
from kdx.data.tables.rows import CLASSES_TASK, NUMBERS_TASK, Table

MOST_CLASSES = 10
"""A target of more different numbers is numbers, where nobody says what it is."""
MISSING_WORD = "(missing)"
"""The category of a word that is missing."""
_IDENTIFIES = 0.9
"""A column with so many different words for its rows tells of each row by itself."""
_LOST = 0.02
"""The share of a column's deviation that float32 may round away: more is said."""
_FEW = 20
"""In so few rows nothing can be said of that."""


@dataclass(frozen=True)
class Read:
    """Files by part, "train" among them; what is to be predicted of their rows. targets: one column, or
    several of numbers. kind: "auto", "classes" or "numbers". ignore: columns that are left out.
    """

    parts: Mapping[str, Columns]
    targets: Sequence[str]
    kind: str
    ignore: Sequence[str]


@dataclass
class _Found:
    """What was made of the columns so far. values: by part, (N,) each."""

    columns: list[rows.TableColumn] = field(default_factory=list)
    values: dict[str, list[np.ndarray]] = field(default_factory=dict)
    flags: list[tuple[int, dict[str, np.ndarray]]] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


def read_table(read: Read) -> Table:
    """Raises UserError where a target or a column is not there, or the target holds what cannot be
    predicted.
    """
    train = read.parts["train"]
    if not read.targets:
        raise UserError(
            f"dataset.target must name the column to be predicted; '{train.path}' has {', '.join(train)}"
        )
    for key, names in (("target", read.targets), ("ignore", read.ignore)):
        for name in names:
            train.column(name, f"dataset.{key}")
    found = _columns(read)
    task, truth = _truth(read, found)
    shape = {part: np.stack(values, 1) for part, values in found.values.items()}
    parts, named = _parted(read, shape, truth, found.notes)
    return Table(
        parts, tuple(found.columns), task, dropped=found.dropped, notes=tuple(found.notes), names=named
    )


def _columns(read: Read) -> _Found:
    """Every column but the targets and those that are to be ignored."""
    found = _Found(values={part: [] for part in read.parts})
    taken = [name for name in read.parts["train"] if name not in (*read.targets, *read.ignore)]
    for held in read.parts.values():
        if lacking := [name for name in taken if name not in held]:
            raise UserError(
                f"'{held.path}' lacks the column {few(lacking)} of '{read.parts['train'].path}': every part "
                "must have the same ones, or set dataset.ignore"
            )
    for name in taken:
        columns = {part: held[name] for part, held in read.parts.items()}
        kind = _kind({column.kind for column in columns.values()})
        if kind in (NUMBER, FLAG):
            for part, column in columns.items():
                _check_finite(column.numbers(), f"the column '{name}' of '{read.parts[part].path}'")
            _add_numbers(found, name, columns)
        elif kind == WORD:
            _add_words(found, name, columns)
        else:
            found.dropped[name] = {
                EMPTY: "it has no value",
                TIME: "it holds days or times, of which kdx makes no numbers",
            }.get(kind, "it holds neither numbers nor words")
    for of, flags in found.flags:
        column = found.columns[of]
        found.columns[of] = rows.TableColumn(column.name, column.categories, missing=len(found.columns))
        found.columns.append(rows.TableColumn(f"{column.name} is missing", flag=True))
        for part, values in flags.items():
            found.values[part].append(values)
    if not found.columns:
        raise UserError(
            f"no column of '{read.parts['train'].path}' is left to tell the target by: "
            + "; ".join(f"{name}: {why}" for name, why in list(found.dropped.items())[:3])
        )
    return found


def _kind(kinds: set[str]) -> str:
    """What a column is that several files hold."""
    known = kinds - {EMPTY}
    for kind in (OTHER, TIME, WORD, NUMBER, FLAG):
        if kind in known:
            return kind
    return EMPTY


def _add_numbers(found: _Found, name: str, columns: Mapping[str, Column]) -> None:
    values = {part: column.numbers() for part, column in columns.items()}
    whole = np.concatenate(list(values.values()))
    known = whole[~np.isnan(whole)]
    lacking = len(known) < len(whole)
    if np.ptp(known) == 0 and not lacking:
        found.dropped[name] = f"it is {known[0]:g} in every row"
        return
    if lacking:
        flags = {part: np.isnan(numbers).astype(np.float32) for part, numbers in values.items()}
        found.flags.append((len(found.columns), flags))
    if too_close := _too_close(known):
        found.notes.append((f"the numbers of {name} {too_close}", "warning"))
    found.columns.append(rows.TableColumn(name))
    for part, numbers in values.items():
        found.values[part].append(np.nan_to_num(numbers, nan=0.0).astype(np.float32))


def _add_words(found: _Found, name: str, columns: Mapping[str, Column]) -> None:
    words = {
        part: [MISSING_WORD if w is None else w for w in column.words()] for part, column in columns.items()
    }
    known = sorted({word for part in words.values() for word in part})
    count = sum(map(len, words.values()))
    if len(known) == 1:
        found.dropped[name] = f"it is '{known[0]}' in every row"
        return
    if count >= _FEW and len(known) > _IDENTIFIES * count:
        found.dropped[name] = (
            f"it has {len(known):,} different words in {count:,} rows, as names or texts have{_but(columns)}"
        )
        return
    code = {word: place for place, word in enumerate(known)}
    found.columns.append(rows.TableColumn(name, tuple(known)))
    for part, column in words.items():
        found.values[part].append(np.array([code[word] for word in column], np.float32))
    if len(known) > rows.MOST_CATEGORIES:
        found.notes.append(
            (
                f"{name} has {len(known):,} different words: the {rows.MOST_CATEGORIES} most frequent of "
                "the rows to train with have a place each, and the others share one",
                "info",
            )
        )


def _truth(read: Read, found: _Found) -> tuple[dict[str, object], dict[str, np.ndarray | None]]:
    """(the task, the truth by part: classes, -1 where there is none, or numbers, nan where there is none)"""
    train = read.parts["train"]
    kind = _kind_of_target(read, found.notes)
    truth: dict[str, np.ndarray | None] = {}
    if kind == "numbers":
        for part, held in read.parts.items():
            if part != "unlabelled":
                numbers = [_target(held, name, part) for name in read.targets]
                truth[part] = np.stack(numbers, 1).astype(np.float32)
        return {"_target_": NUMBERS_TASK, "names": list(read.targets)}, truth
    if len(read.targets) > 1:
        raise UserError(
            f"dataset.target names {len(read.targets)} columns, and classes are in one: set "
            "dataset.kind=numbers, or name one"
        )
    name = read.targets[0]
    words = {
        p: held.column(name, "dataset.target").words() for p, held in read.parts.items() if p != "unlabelled"
    }
    classes = _sorted({word for word in words["train"] if word is not None})
    if len(classes) < 2:
        raise UserError(
            f"the target '{name}' of '{train.path}' has {len(classes)} different "
            f"value{'' if len(classes) == 1 else 's'}: there is nothing to tell apart"
        )
    code = {word: place for place, word in enumerate(classes)}
    for part, found_words in words.items():
        if foreign := sorted({word for word in found_words if word is not None and word not in code}):
            raise UserError(
                f"'{read.parts[part].path}' has rows of the class {few(foreign)}, of which "
                f"'{train.path}' has none"
            )
        truth[part] = np.array([-1 if word is None else code[word] for word in found_words], np.int64)
    return {"_target_": CLASSES_TASK, "classes": classes}, truth


def _kind_of_target(read: Read, notes: list[Note]) -> str:
    """ "classes" or "numbers"; what was not said is seen, and reported."""
    if read.kind != "auto":
        return read.kind
    columns = [read.parts["train"][name] for name in read.targets]
    for name, column in zip(read.targets, columns, strict=True):
        if stray := _stray(column):
            raise UserError(
                f"the target '{name}' of '{read.parts['train'].path}' holds numbers, but {stray}: put a "
                "number or nothing there, or set dataset.kind=classes"
            )
    numbers = all(column.kind == NUMBER for column in columns)
    if len(columns) > 1:
        return "numbers"
    different = (
        len(np.unique(found[~np.isnan(found)])) if numbers and len(found := columns[0].numbers()) else 0
    )
    kind = "numbers" if different > MOST_CLASSES else "classes"
    if numbers:
        other = "classes" if kind == "numbers" else "numbers"
        notes.append(
            (
                f"the target {read.targets[0]} has {different:,} different numbers and is taken for {kind} "
                f"(dataset.kind={other} otherwise)",
                "info",
            )
        )
    return kind


def _target(held: Columns, name: str, part: str) -> np.ndarray:
    column = held.column(name, "dataset.target")
    if column.kind not in (NUMBER, FLAG, EMPTY):
        stray = _stray(column)
        raise UserError(
            f"the target '{name}' of '{held.path}' holds "
            f"{'words' if column.kind == WORD else 'no numbers'}{f' ({stray})' if stray else ''}: set "
            "dataset.kind=classes, or choose another dataset.target"
        )
    numbers, called = column.numbers(), f"the target '{name}' of '{held.path}'"
    finite = np.where(np.isinf(numbers), np.nan, numbers)  # an infinite one is refused by the name of its row
    _check_finite(finite, called)
    if part == "train" and (too_close := _too_close(finite[~np.isnan(finite)])):
        raise UserError(f"the numbers of {called} {too_close}")
    return numbers


def _check_finite(numbers: np.ndarray, called: str) -> None:
    """Raises UserError where one is infinite, or would be as a row holds it."""
    beyond = np.flatnonzero(np.abs(numbers) > np.finfo(np.float32).max)
    if len(beyond):
        raise UserError(
            f"{called} is {numbers[beyond[0]]:g} in row {beyond[0] + 1:,}{_more(len(beyond))}, and rows hold "
            f"numbers up to {np.finfo(np.float32).max:.1e}: put another number or nothing there"
        )


def _too_close(known: np.ndarray) -> str:
    """What is wrong with numbers that lie closer together than float32 can tell apart, "" where it can."""
    spread = known.std() if len(known) else 0.0
    if not 0 < spread < np.inf:
        return ""
    lost = np.sqrt(np.mean(np.square(known - known.astype(np.float32))))
    if lost <= _LOST * spread:
        return ""
    return (
        f"lie too close together around {known.mean():g} (their deviation is {spread:.3g}) for the 32 bits "
        f"that rows hold: of that {min(1.0, lost / spread):.0%} is lost; subtract {known.min():.10g} from "
        "them, say"
    )


def _stray(column: Column) -> str:
    """ "row 8 has 'unknown'" of words most of which are numbers, more different ones than classes are; else
    "". JSON lines can have all of them in quotes.
    """
    if column.kind != WORD:
        return ""
    words = column.words()
    known = [word for word in words if word is not None]
    numbers = [word for word in known if reads_as_number(word.replace(",", ".", 1))]
    if len(numbers) * 2 <= len(known) or len(set(numbers)) <= MOST_CLASSES:
        return ""
    strays = [row for row, word in enumerate(words) if word is not None and not reads_as_number(word)]
    if not strays:
        return "they are in quotes"
    return f"row {strays[0] + 1:,} has '{words[strays[0]]}'{_more(len(strays))}"


def _but(columns: Mapping[str, Column]) -> str:
    """What is said of a column of words for which one is to blame."""
    stray = next((stray for column in columns.values() if (stray := _stray(column))), "")
    return f"; most are numbers, but {stray}" if stray else ""


def _more(count: int) -> str:
    return f" (and {count - 1:,} more)" if count > 1 else ""


def _sorted(words: set[str]) -> list[str]:
    """By number where all are numbers."""
    try:
        return sorted(words, key=float)
    except ValueError:
        return sorted(words)


def _parted(
    read: Read,
    values: Mapping[str, np.ndarray],
    truth: Mapping[str, np.ndarray | None],
    notes: list[Note],
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray | None]], dict[str, list[str]]]:
    """(parts, names of their rows): rows of train without a truth are the pool, those of test are left
    out.
    """
    parts: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    names: dict[str, list[str]] = {}
    pool, pool_names = [], []
    for part, inputs in values.items():
        held = read.parts[part].path.name
        known = np.zeros(len(inputs), bool) if (of := truth.get(part)) is None else _known(of)
        called = [f"row {row + 1} of {held}" for row in range(len(inputs))]
        if part != "unlabelled":
            if not known.any():
                raise UserError(
                    f"no row of '{read.parts[part].path}' has a target ({', '.join(read.targets)})"
                )
            assert of is not None
            parts[part], names[part] = (
                (inputs[known], of[known]),
                [called[row] for row in np.flatnonzero(known)],
            )
        if not known.all() and part != "unlabelled":
            lacking = f"{int((~known).sum()):,} of {len(known):,} rows of {held} have no target"
            notes.append((f"{lacking}, and {'join the pool' if part == 'train' else 'are left out'}", "info"))
        if part != "test":
            pool.append(inputs[~known])
            pool_names += [called[row] for row in np.flatnonzero(~known)]
    if sum(map(len, pool)):
        parts["unlabelled"], names["unlabelled"] = (np.concatenate(pool), None), pool_names
    return parts, names


def _known(truth: np.ndarray) -> np.ndarray:
    """(N,) bool. A number that is infinite is one, and is refused later."""
    return truth >= 0 if truth.ndim == 1 else ~np.isnan(truth).any(1)
