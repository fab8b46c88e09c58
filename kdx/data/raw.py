"""What every loader hands over, and says of it beforehand. Numpy and the standard library only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np

from kdx.core.errors import UserError
from kdx.core.several import kinds_by_name
from kdx.core.trees import leaves
from kdx.data.phrases import in_form
from kdx.data.stored import taken
from kdx.data.words import WordsOnDemand

PARTS = ("train", "validation", "test", "unlabelled")
"""What a data set may ship."""
MEANING = {
    "train": "to train with",
    "validation": "to validate with",
    "test": "to test with",
    "unlabelled": "in the pool",
}
Skipped = Mapping[str, str] | Sequence[str]
"""Name -> why it was left out, in a line; or names alone"""
Note = tuple[str, str]
"""(what the user should know, "info" or "warning")"""


class Raw(ABC):
    """A data set as it lies on disk, before it is split: what a loader hands over.

    It has a part "train", and may have "validation", "test" and "unlabelled". Arrays may be memory maps or
    views; it is a frozen dataclass whose fields are arrays and plain data, as it is kept (kdx.data.laid) and
    opened again: of a large data set its inputs are then StoredRows, which are read block by block. task: the
    `_target_` and the keys of what answers mean, as plain data. reads: what its rows are, as networks and
    augmentations say that they read it: "pictures", or a word of your own. noun: one row, in sentences.
    notes: what the user should know of how the set was read; what hangs on more than its key belongs to
    kdx.data.files.Files. skipped: files that were left out because they cannot be read, by name, with the
    reason of each; names alone will do. names: what the rows of a part are called, where they have names."""

    task: Mapping[str, Any]
    reads: str
    noun: str = "row"
    notes: tuple[Note, ...] = ()
    skipped: Skipped = ()
    names: Mapping[str, Sequence[str]]

    @abstractmethod
    def part(self, name: str) -> tuple[Any, Any]:
        """(inputs, truth) of a part: one array each, or several by name, rows first; None where there are
        none.
        """

    @abstractmethod
    def only(self, rows: Mapping[str, np.ndarray]) -> Self:
        """With these rows of some parts, and all of the others."""

    def strata(self, part: str) -> np.ndarray | None:
        """(N,) int64: the group, such as the class, of each row of a part, of which splits keep the shares;
        None: there are none.
        """
        return None

    def fitted(
        self, seen: Sequence[Any], like: Mapping[str, Any] | None = None, *, labelled: bool = True
    ) -> Self:
        """Asked once it is known who sees which rows, of a data set whose rows are read by what others hold,
        such as the words of a vocabulary: the same with rows as networks read them. Until then its inputs may
        be any numbers that are equal where rows are. seen: the inputs that training may see, and no other
        row may count. like: the adapter of a network that is to read these rows as it read its own: then
        nothing is fitted. labelled: whether labelled rows are among the seen, or those of the pool alone, as
        of private labelled rows; it is said of what was fitted. By default rows are given as they are read.
        """
        return self

    def in_form_of(self, wanted: Any, inputs: Any) -> Any:
        """Rows of its own in the form of `wanted`, rows of another data set of the same kind beside which
        they are to stand. Raises UserError where they cannot have it.
        """
        here, there = example_of(inputs), example_of(wanted)
        if here != there:
            raise UserError(
                f"the pool has rows of another form than the data set: {in_form(here)}, and there "
                f"{in_form(there)}; choose a pool of the same columns and lengths"
            )
        return inputs

    def adapter(self, seen: Sequence[Any]) -> tuple[Mapping[str, Any] | None, list[Note]]:
        """(what stands between its rows and a network (kdx.models.adapt), as plain data, None: nothing; what
        there is to say of it). seen: the inputs that training may see, arrays or StoredRows.
        """
        return None, []

    def about(self) -> dict[str, Any]:
        """Further plain data for data.json."""
        return {}

    def blank(self, inputs: Any) -> np.ndarray | None:
        """(N,) bool: of inputs before `fitted`, the rows that hold nothing at all: they are alike for that,
        and no copies of each other. None: there are none.
        """
        return None

    def look(
        self, inputs: Mapping[str, Any], name: Callable[[str, int], str]
    ) -> tuple[list[Note], dict[str, Any]]:
        """(what is odd about the rows of the splits, the same as JSON). name: what row i of a split is
        called.
        """
        return [], {}

    def in_words(self) -> str:
        """What one row is like."""
        return ""

    def name(self, part: str, row: int) -> str:
        """What a row is called."""
        return self.names[part][row] if part in self.names else f"row {row} of the {part} part"


@dataclass(frozen=True, eq=False)
class Arrays(Raw):
    """Rows of any kind. parts: name -> (inputs, truth), of "unlabelled" truth None. groups: (N,) int64 of the
    train part, None: splits are drawn at random. between: the adapter.
    """

    parts: Mapping[str, tuple[Any, Any]]
    task: Mapping[str, Any]
    reads: str
    groups: np.ndarray | None = None
    between: Mapping[str, Any] | None = None
    noun: str = "row"
    notes: tuple[Note, ...] = ()
    skipped: Skipped = ()
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def part(self, name: str) -> tuple[Any, Any]:
        return self.parts.get(name, (None, None))

    def only(self, rows: Mapping[str, np.ndarray]) -> Self:
        groups = self.groups[rows["train"]] if self.groups is not None and "train" in rows else self.groups
        parts, names = fewer_parts(self.parts, rows), fewer_names(self.names, rows)
        return replace(self, parts=parts, names=names, groups=groups)

    def strata(self, part: str) -> np.ndarray | None:
        return self.groups if part == "train" else None

    def adapter(self, seen: Sequence[Any]) -> tuple[Mapping[str, Any] | None, list[Note]]:
        return self.between, []


def fewer_parts(
    parts: Mapping[str, tuple[Any, Any]], rows: Mapping[str, np.ndarray]
) -> dict[str, tuple[Any, Any]]:
    """part -> (inputs, truth), of the parts in `rows` these rows alone; none of StoredRows is read."""
    return {
        name: (taken(inputs, rows[name]), None if truth is None else taken(truth, rows[name]))
        if name in rows and inputs is not None
        else (inputs, truth)
        for name, (inputs, truth) in parts.items()
    }


def fewer_names(
    names: Mapping[str, Sequence[str]], rows: Mapping[str, np.ndarray]
) -> dict[str, Sequence[str]]:
    """part -> what its rows are called, of the parts in `rows` these rows alone."""
    return {part: [known[i] for i in rows[part]] if part in rows else known for part, known in names.items()}


@dataclass(frozen=True, eq=False)
class RowNames(WordsOnDemand):
    """What rows of files are called, "row 3 of a.csv", by their numbers alone. numbers: (N,) int64 from 0, of
    each file.
    """

    files: tuple[str, ...]
    numbers: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, numbers: Mapping[str, Sequence[np.ndarray]]) -> RowNames:
        """numbers: file -> (n,) each, one after the other."""
        return cls(tuple(numbers), tuple(np.concatenate(found) for found in numbers.values()))

    def __len__(self) -> int:
        return sum(map(len, self.numbers))

    def at(self, place: int) -> str:
        for file, numbers in zip(self.files, self.numbers, strict=True):
            if place < len(numbers):
                return f"row {int(numbers[place]) + 1} of {file}"
            place -= len(numbers)
        raise IndexError(place)


def joined_names(names: Sequence[Sequence[str]]) -> Sequence[str]:
    """One after the other."""
    rows = [known for known in names if isinstance(known, RowNames)]
    if len(rows) < len(names):
        return [name for known in names for name in known]
    found: list[tuple[str, list[np.ndarray]]] = []
    for known in rows:
        for file, numbers in zip(known.files, known.numbers, strict=True):
            if not found or found[-1][0] != file:
                found.append((file, []))
            found[-1][1].append(numbers)
    return RowNames(tuple(file for file, _ in found), tuple(np.concatenate(of) for _, of in found))


def skip_reasons(skipped: Skipped) -> dict[str, str]:
    """name -> why it was left out, in order of name; "" where nobody said why."""
    found = skipped if isinstance(skipped, Mapping) else dict.fromkeys(skipped, "")
    return {str(name): str(found[name]) for name in sorted(found, key=str)}


def example_of(inputs: Any) -> dict[str, tuple[list[int], str]]:
    """name -> (shape of one row, type), "" where there is one array: as data.json has it."""
    return {name: (list(leaf.shape[1:]), str(leaf.dtype)) for name, leaf in leaves(inputs).items()}


@dataclass(frozen=True)
class Description:
    """What is known of a data set without reading all of it, as plain data.

    task: the `_target_` of what answers mean (kdx.tasks), with its keys. example: name -> (shape of one row,
    type such as "uint8"), "" where inputs are one array. reads: what its rows are; see Raw. train: rows of
    the train part; strata: the same by group (by class), None: without groups. test, validation: rows of such
    a part that it ships, None where it ships none; pool: rows without truth. test_size_is_a_fallback: a
    `test` size may be given although a test part is shipped, and is then unused (a folder of pictures has
    `test/` or has not; the same settings serve both). A size of validation always is. adapter: a stand-in for
    that of the data (see Raw.adapter), for checks before work. cheap: whether all rows may be read only to
    look at them, so that equal ones are found.
    """

    task: Mapping[str, Any]
    example: Mapping[str, tuple[Sequence[int], str]]
    reads: str
    train: int
    strata: tuple[int, ...] | None = None
    test: int | None = None
    pool: int = 0
    test_size_is_a_fallback: bool = False
    validation: int | None = None
    adapter: Mapping[str, Any] | None = None
    cheap: bool = True

    def of_kind(self, kind: str) -> Description:
        """Of rows with several inputs the same with the first of that kind alone; else as it is."""
        named = kinds_by_name(self.reads, self.example)
        found = next((name for name, held in named.items() if held == kind), None)
        return replace(self, example={"": self.example[found]}, reads=kind) if found else self

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, () where there are none."""
        return tuple(self.task.get("classes", ()))

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Of one row, where it is one array."""
        return tuple(self.example[""][0]) if "" in self.example else None

    def row_bytes(self) -> int:
        """Of one row as it is stored."""
        return sum(
            int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
            for shape, kind in self.example.values()
        )


class Loader(Protocol):
    """What a data set is: a class whose arguments are the keys of its YAML, checked as it is built.

    `paths`, where it has that attribute, names the keys that say where its files lie. `streams`, where it has
    that attribute and it is true: `load` takes `write` too (kdx.data.stored.Writers), and hands the inputs of
    each part to what it gives, block by block, so that a data set may be larger than memory.
    """

    def files(self) -> Any:
        """The files that it reads, always the same ones in one order, or by part (kdx.data.files.Files): they
        are known by their content. [] where it reads none.
        """

    def fetch(self) -> None:
        """Makes sure that they are there, downloads them where that is asked for; UserError where they are
        not.
        """

    def describe(self) -> Description:
        """What it holds, without reading all of it."""

    def load(self, *, workers: int) -> Raw:
        """All of it. workers: threads that may read; the result is the same for any number."""
