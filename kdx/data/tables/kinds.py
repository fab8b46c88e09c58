"""Which columns of a table are numbers, which categories, and which are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kdx.data.columns import EMPTY, FLAG, NUMBER, TIME, WORD, kind_of
from kdx.data.raw import Note
from kdx.data.tables import rows
from kdx.data.tables.overview import Numbers, Overview, count_words, identifies
from kdx.data.tables.target import FEW, IDENTIFIES, check_finite_target, stray_of, too_close

MISSING_WORD = "(missing)"
"""The category of a word that is missing."""


@dataclass
class ColumnPlan:
    """What was made of the columns so far. lacking: places of those whose numbers are not all known."""

    columns: list[rows.TableColumn] = field(default_factory=list)
    lacking: list[int] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


def add_column(found: ColumnPlan, name: str, parts: Mapping[str, Overview]) -> None:
    """One more column, or why there is none."""
    kind = kind_of({held.columns[name].kind for held in parts.values()})
    if kind in (NUMBER, FLAG):
        for held in parts.values():
            check_finite_target(held.columns[name].numbers, f"the column '{name}' of '{held.path}'")
        _add_numbers(found, name, parts)
    elif kind == WORD:
        _add_words(found, name, parts)
    else:
        found.dropped[name] = {
            EMPTY: "it has no value",
            TIME: "it holds days or times, of which kdx makes no numbers",
        }.get(kind, "it holds neither numbers nor words")


def _add_numbers(found: ColumnPlan, name: str, parts: Mapping[str, Overview]) -> None:
    whole = Numbers()
    for held in parts.values():
        whole.merge(held.columns[name].numbers)
    if whole.low == whole.high and not whole.missing:
        found.dropped[name] = f"it is {whole.low:g} in every row"
        return
    if whole.missing:
        found.lacking.append(len(found.columns))
    if close := too_close(whole):
        found.notes.append((f"the numbers of {name} {close}", "warning"))
    if why := _tells_the_row(name, parts["train"]):
        found.notes.append(
            (
                f"the column {name} {why}, and is kept as a number: where it only says which row it is, "
                f"leave it out with dataset.ignore=[{name}]",
                "warning",
            )
        )
    found.columns.append(rows.TableColumn(name))


def _tells_the_row(name: str, train: Overview) -> str:
    """Why a column of whole numbers is plainly one of identifiers; "" where it is not."""
    looked = train.columns[name]
    numbers = looked.numbers
    if looked.kind != NUMBER or numbers.known < FEW or numbers.missing or not numbers.whole:
        return ""
    first = name == train.names[0] and numbers.low in (0, 1)
    if numbers.row_numbers and (first or identifies(name)):
        return f"numbers the rows ({numbers.low:g}, {numbers.low + 1:g}, ...)"
    if looked.different is not None and looked.different.count() == numbers.known:
        return "has another whole number in every row and the name of an identifier"
    return ""


def _add_words(found: ColumnPlan, name: str, parts: Mapping[str, Overview]) -> None:
    held = [overview.columns[name] for overview in parts.values()]
    count = sum(overview.rows for overview in parts.values())
    known, many = _known_words(name, parts, count)
    if many == 1:
        found.dropped[name] = f"it is '{next(iter(known))}' in every row"
        return
    if count >= FEW and many > IDENTIFIES * count:
        stray = next((stray for looked in held if (stray := stray_of(looked))), "")
        but = f"; most are numbers, but {stray}" if stray else ""
        found.dropped[name] = (
            f"it has {many:,} different words in {count:,} rows, as names or texts have{but}"
        )
        return
    found.columns.append(rows.TableColumn(name, tuple(sorted(known))))
    if many > rows.MOST_CATEGORIES:
        found.notes.append(
            (
                f"{name} has {many:,} different words: the {rows.MOST_CATEGORIES} most frequent of "
                "the rows to train with have a place each, and the others share one",
                "info",
            )
        )


def _known_words(name: str, parts: Mapping[str, Overview], count: int) -> tuple[set[str], int]:
    """(the words of a column of all files, the missing one among them; how many there are: where there are
    nearly as many as rows the words themselves may be left out)"""
    known: set[str] = set()
    for held in parts.values():
        looked = held.columns[name]
        if looked.kind == WORD and looked.words.counts is None and looked.words.many() > IDENTIFIES * count:
            return set(), looked.words.many()
        if looked.kind != WORD or looked.words.counts is None:  # numbers here and words there, or too many
            counts = count_words(held.file, name)
            known |= set(counts)
            lacking = counts.total() < held.rows
        else:
            known |= set(looked.words.counts)
            lacking = looked.words.missing > 0
        known |= {MISSING_WORD} if lacking else set()
    return known, len(known)
