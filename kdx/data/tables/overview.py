"""A file of columns looked at once, a batch of rows at a time: what is kept of each column tells how it is
read, and no row is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kdx.core import snapshot
from kdx.data.column_files import ColumnFile
from kdx.data.columns import EMPTY, FLAG, NUMBER, WORD, Column, Columns, kind_of, reads_as_number

MOST_CLASSES = 10
"""A target of more different numbers is numbers, where nobody says what it is."""
_WORDS, _LETTERS = 1 << 16, 1 << 24
"""More different words, or letters in these, are counted and not kept."""
_LARGEST = float(np.finfo(np.float32).max)


@dataclass
class DifferentValues:
    """How many different values there are: 8 bytes of each are kept."""

    _sorted: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    _new: list[np.ndarray] = field(default_factory=list)

    def add(self, marks: np.ndarray) -> None:
        """(n,) int64, equal where values are."""
        self._new.append(np.unique(marks))
        if sum(map(len, self._new)) > len(self._sorted):  # now and then, as each time all are sorted
            self._settle()

    def count(self) -> int:
        self._settle()
        return len(self._sorted)

    def _settle(self) -> None:
        self._sorted = np.unique(np.concatenate([self._sorted, *self._new]))
        self._new = []


@dataclass
class Numbers:
    """What is known of the numbers of a column, missing ones apart. lost: the sum of the squares of what
    float32 rounds away; beyond: those that float32 does not hold, the first of them in the row `first` as
    `value`. row_numbers: whether each is the one before plus 1, as if rows were numbered.
    """

    known: int = 0
    missing: int = 0
    low: float = np.inf
    high: float = -np.inf
    mean: float = 0.0
    squares: float = 0.0
    lost: float = 0.0
    beyond: int = 0
    first: int = 0
    value: float = 0.0
    row_numbers: bool = True
    whole: bool = True

    @property
    def std(self) -> float:
        return float(np.sqrt(self.squares / self.known)) if self.known else 0.0

    def add(self, numbers: np.ndarray, rows: int) -> None:
        """numbers: (n,) float64, nan where one is missing. rows: how many came before."""
        known = numbers[~np.isnan(numbers)]
        self.missing += len(numbers) - len(known)
        beyond = np.flatnonzero(np.abs(numbers) > _LARGEST)
        if len(beyond) and not self.beyond:
            self.first, self.value = rows + int(beyond[0]), float(numbers[beyond[0]])
        self.beyond += len(beyond)
        known = known[np.abs(known) <= _LARGEST]
        if not len(known):
            return
        steps = np.diff(known) if not self.known else np.diff(known, prepend=self.high)
        self.row_numbers = self.row_numbers and bool((steps == 1).all())
        self.whole = self.whole and bool((known == np.floor(known)).all())
        self.low, self.high = min(self.low, float(known.min())), max(self.high, float(known.max()))
        lost = np.sum(np.square(known - known.astype(np.float32)))
        mean = float(known.mean())
        self.merge(
            Numbers(
                known=len(known), mean=mean, squares=float(np.square(known - mean).sum()), lost=float(lost)
            )
        )

    def merge(self, other: Numbers) -> None:
        """As if its numbers had come too (Chan, Golub and LeVeque 1979)."""
        known = self.known + other.known
        if known:
            apart = other.mean - self.mean
            self.mean += apart * other.known / known
            self.squares += other.squares + apart * apart * self.known * other.known / known
        self.known, self.missing = known, self.missing + other.missing
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.lost, self.beyond = self.lost + other.lost, self.beyond + other.beyond


@dataclass
class TextColumn:
    """What is known of a column as words. counts: how often each stands there, None: there are too many to
    keep. missing: rows without one. numeric: how many can be read as numbers, with a comma too, and
    `numeric_kinds` some different ones of these; strays: how many cannot, the first in the row `first` as
    `stray`.
    """

    counts: Counter[str] | None = field(default_factory=Counter)
    different: DifferentValues = field(default_factory=DifferentValues)
    letters: int = 0
    known: int = 0
    missing: int = 0
    numeric: int = 0
    numeric_kinds: set[str] = field(default_factory=set)
    strays: int = 0
    first: int = 0
    stray: str = ""

    def add(self, words: Sequence[str | None], rows: int) -> None:
        """rows: how many came before."""
        found = Counter(words)
        self.missing += found.pop(None, 0)
        known: Counter[str] = found  # type: ignore[assignment]
        self.known += known.total()
        odd: set[str] = set()
        for word, count in known.items():
            if reads_as_number(word.replace(",", ".", 1)):
                self.numeric += count
                if len(self.numeric_kinds) <= MOST_CLASSES:
                    self.numeric_kinds.add(word)
            if not reads_as_number(word):
                self.strays += count
                odd.add(word)
        if odd and not self.stray:
            self.first, self.stray = next((rows + i, word) for i, word in enumerate(words) if word in odd)
        if self.counts is not None:
            self.letters += sum(len(word) for word in known if word not in self.counts)
            self.counts += known
            if len(self.counts) <= _WORDS and self.letters <= _LETTERS:
                return
            known, self.counts = self.counts, None
        self.different.add(np.fromiter(map(hash, known), np.int64, len(known)))

    def many(self) -> int:
        """How many different ones there are."""
        return self.different.count() if self.counts is None else len(self.counts)


@dataclass
class Looked:
    """What is known of one column of a file. kinds: of all batches, see kdx.data.columns. words: of a column
    of words, and of a target; different: of a column of whole numbers whose name says that they identify.
    """

    name: str
    target: bool
    kinds: set[str] = field(default_factory=set)
    numbers: Numbers = field(default_factory=Numbers)
    words: TextColumn = field(default_factory=TextColumn)
    different: DifferentValues | None = None

    def add(self, column: Column, rows: int) -> None:
        self.kinds.add(column.kind)
        if column.kind in (NUMBER, FLAG, EMPTY):
            numbers = column.numbers()
            self.numbers.add(numbers, rows)
            if column.kind == NUMBER and self.numbers.whole and identifies(self.name):
                self.different = self.different or DifferentValues()
                self.different.add(numbers[~np.isnan(numbers)].view(np.int64))
        if column.kind in (WORD, EMPTY) or self.target:
            self.words.add(column.words(), rows)

    @property
    def kind(self) -> str:
        return kind_of(self.kinds)


@dataclass
class Overview:
    """What is known of a file. targets: names of columns that are to be predicted. unknown: rows in which one
    of these is missing.
    """

    file: ColumnFile
    targets: Collection[str]
    names: tuple[str, ...] = ()
    rows: int = 0
    columns: dict[str, Looked] = field(default_factory=dict)
    unknown: int = 0

    @property
    def path(self) -> Path:
        return self.file.path

    def add(self, columns: Columns) -> None:
        self.names = tuple(columns)
        for name, column in columns.items():
            looked = self.columns.setdefault(name, Looked(name, name in self.targets))
            looked.add(column, self.rows)
        self.unknown += int(without_target(columns, self.targets).sum())
        self.rows += columns.rows


def overview(path: Path, targets: Sequence[str], ignore: Sequence[str]) -> Overview:
    """Of a file without the columns that are to be ignored; inside one command a file is looked at once.
    Raises UserError where it cannot be read.
    """

    def look() -> Overview:
        file = ColumnFile(path, lambda name: name not in ignore)
        return file.passed(lambda: Overview(file, targets))

    key = ("table looked at", str(path), tuple(targets), tuple(ignore))
    return snapshot.while_same(key, str(path), look, lambda found: True)


def without_target(columns: Columns, targets: Collection[str]) -> np.ndarray:
    """(N,) bool: rows in which one of these is missing; those that the file does not have count for none."""
    found = np.zeros(columns.rows, bool)
    for name in targets:
        if name in columns:
            column = columns[name]
            if column.kind in (NUMBER, FLAG, EMPTY):
                found |= np.isnan(column.numbers())
            else:
                found |= np.array([word is None for word in column.words()], bool)
    return found


def count_words(file: ColumnFile, name: str) -> Counter[str]:
    """How often each word stands in a column, by one more look at that column alone: of one that is a
    category for reasons that were not known before."""
    looked = Counter[str]()
    for columns in ColumnFile(file.path, name.__eq__, dict(file.types), file.block).batches():
        looked.update(word for word in columns[name].words() if word is not None)
    return looked


def identifies(name: str) -> bool:
    """Whether a name says that the column tells which row it is."""
    small = name.strip().lower()
    return (
        small in ("id", "uid", "uuid", "index", "key")
        or small.endswith(("_id", " id", "-id"))
        or name.endswith("Id")
    )
