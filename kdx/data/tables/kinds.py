"""Which columns of a table are numbers, which categories, and which are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kdx.core.errors import UserError
from kdx.data.columns import EMPTY, FLAG, NUMBER, TIME, WORD
from kdx.data.phrases import few
from kdx.data.raw import Note
from kdx.data.tables import rows
from kdx.data.tables.overview import Looked, Numbers, Overview, count_words, identifies
from kdx.data.tables.target import FEW, IDENTIFIES, check_finite_target, stray_of, stray_words, too_close

MISSING_WORD = "(missing)"
"""The category of a word that is missing."""


@dataclass
class ColumnPlan:
    """What was made of the columns so far. lacking: places of those whose numbers are not all known."""

    columns: list[rows.TableColumn] = field(default_factory=list)
    lacking: list[int] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


def alike(parts: Mapping[str, Overview]) -> dict[str, Overview]:
    """The files, of which what is a category in that to train with is read as words in all: numbers and days
    too, where a file holds nothing else."""
    kinds = {name: column.kind for name, column in parts["train"].columns.items()}
    found = {}
    for part, held in parts.items():
        names = [name for name, col in held.columns.items() if kinds.get(name) == WORD != col.kind]
        found[part] = replace(held, file=held.file.as_words(names))
    return found


def add_column(found: ColumnPlan, name: str, parts: Mapping[str, Overview]) -> None:
    """One more column, or why there is none. What it is, the file to train with says."""
    train = parts["train"]
    looked = train.columns[name]
    kind = looked.kind if looked.kind != NUMBER or looked.numbers.known else EMPTY  # NaN in every row
    if kind in (NUMBER, FLAG):
        for held in parts.values():
            _check_numbers(held, train, name)
        _add_numbers(found, name, parts)
    elif kind == WORD:
        _add_words(found, name, parts)
    else:
        found.dropped[name] = {
            EMPTY: "it has no value",
            TIME: "it holds days or times, of which kdx makes no numbers",
        }.get(kind, "it holds neither numbers nor words")


def _check_numbers(held: Overview, train: Overview, name: str) -> None:
    """Raises UserError where a file has something else in a column of numbers."""
    looked = held.columns[name]
    if looked.kind in (NUMBER, FLAG, EMPTY):
        check_finite_target(looked.numbers, f"the column '{name}' of '{held.path}'")
        return
    holds, what = "numbers", {TIME: "days or times", WORD: "numbers in quotes"}.get(looked.kind, "lists")
    if looked.words.strays:
        what = stray_words(looked)
    if train.columns[name].kind == FLAG:
        holds = "true and false"
        others = sorted(set(looked.words.counts or ()) - {"true", "false"})
        what = f"words too ({few(others)})" if others else what
    raise UserError(
        f"the column '{name}' of '{train.path}' holds {holds}, but in '{held.path}' {what}: put the like or "
        f"nothing there, or leave the column out with dataset.ignore=[{name}]"
    )


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
    training = {part: held for part, held in parts.items() if part != "test"}
    count = sum(overview.rows for overview in training.values())
    known, many = _known_words(name, training, count)
    if many == 1:
        found.dropped[name] = f"it is '{next(iter(known))}' in every row"
        return
    looked = parts["train"].columns[name]
    stray = stray_of(looked)
    if count >= FEW and many > IDENTIFIES * count:
        but = f"; most are numbers, but {stray}" if stray else ""
        why = f"it has {many:,} different words in {count:,} rows, as names or texts have{but}"
        found.dropped[name] = why
        if stray:
            found.notes.append((f"{_mostly(looked, parts['train'])}, and is left out{_REMEDY}", "warning"))
        return
    if stray:
        found.notes.append((f"{_mostly(looked, parts['train'])}, and is a category{_REMEDY}", "warning"))
    known = _with_others(found, name, parts, known)
    found.columns.append(rows.TableColumn(name, tuple(sorted(known))))
    if many > rows.MOST_CATEGORIES:
        found.notes.append(
            (
                f"{name} has {many:,} different words: the {rows.MOST_CATEGORIES} most frequent of "
                "the rows to train with have a place each, and the others share one",
                "info",
            )
        )


_REMEDY = ": put a number or nothing there to have it as numbers"


def _mostly(looked: Looked, train: Overview) -> str:
    """ "the column x of rows.csv holds numbers, but row 9 has 'dear' (1 of 600 rows, 0.17%)" """
    odd, share = looked.words.strays, looked.words.strays / looked.words.known
    many = f" ({odd:,} of {looked.words.known:,} values, {100 * share:.2g}%)" if odd else ""
    return f"the column {looked.name} of {train.path.name} holds numbers, but {stray_of(looked)}{many}"


def _with_others(found: ColumnPlan, name: str, parts: Mapping[str, Overview], known: set[str]) -> set[str]:
    """The words of a category of all parts; those that training has never seen are said. known: of the rows
    to train with and of the pool."""
    trained = _counts(parts["train"], name)
    for part, held in parts.items():
        if part == "train":
            continue
        before = trained.keys() if part == "unlabelled" else known
        counts = _counts(held, name)
        lacking = counts.get(MISSING_WORD, 0) if MISSING_WORD not in before else 0
        unseen = sorted(counts.keys() - before - {MISSING_WORD})
        if unseen:
            of = sum(counts[word] for word in unseen)
            whose = parts["train"].path.name if part == "unlabelled" else "training"
            found.notes.append(
                (
                    f"{name} of {held.path.name} holds words that {whose} has never seen, in {of:,} of "
                    f"{held.rows:,} rows: {few(unseen)}",
                    "warning",
                )
            )
        if lacking:
            found.notes.append(
                (
                    f"{name} of {held.path.name} is missing in {lacking:,} of {held.rows:,} rows, and in "
                    f"none of {parts['train'].path.name}",
                    "warning",
                )
            )
        known = known | counts.keys()
    return known


def _counts(held: Overview, name: str) -> dict[str, int]:
    """How often each word stands in a column, the missing one among them."""
    looked = held.columns[name]
    if looked.kind == WORD and looked.words.counts is not None:
        counts, lacking = looked.words.counts, looked.words.missing
    else:  # numbers here and words there, or too many
        counts = count_words(held.file, name)
        lacking = held.rows - counts.total()
    return dict(counts) | ({MISSING_WORD: counts.get(MISSING_WORD, 0) + lacking} if lacking else {})


def _known_words(name: str, parts: Mapping[str, Overview], count: int) -> tuple[set[str], int]:
    """(the words of a column of these files, the missing one among them; how many there are: where there are
    nearly as many as rows the words themselves may be left out)"""
    known: set[str] = set()
    for held in parts.values():
        looked = held.columns[name]
        if looked.kind == WORD and looked.words.counts is None and looked.words.many() > IDENTIFIES * count:
            return set(), looked.words.many()
        known |= _counts(held, name).keys()
    return known, len(known)
