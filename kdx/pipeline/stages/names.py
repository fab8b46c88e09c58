"""Which rows of the decoded data set the rows of a split are, and what the data set calls them: for what is
said of rows afterwards. No stage learns from it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core.trees import rows_of
from kdx.data.laid import RAW_JSON, open_raw
from kdx.data.new_rows.rows import FILE_COLUMN, ROW_COLUMN
from kdx.data.raw import PARTS, Raw
from kdx.pipeline.stages.arrays import (
    DECODED,
    INPUTS,
    ORIGIN,
    ORIGINS,
    ROW_NUMBERS,
    array_files,
    class_of,
    decoded_folder,
)
from kdx.store.artifact import Artifact

_BLOCK = 8192


@dataclass(frozen=True)
class KnownBy:
    """What the rows of a split are known by. numbers: (N,) in the decoded data set, as of `decoded_numbers`.
    names: of `row_names`."""

    numbers: np.ndarray | None
    names: Callable[[int], str] | None

    @property
    def by(self) -> str:
        """FILE_COLUMN or ROW_COLUMN."""
        return ROW_COLUMN if self.numbers is None or self.names is None else FILE_COLUMN

    def one_by_one(self, rows: int) -> Iterator[Any]:
        """What the first rows of the split are known by."""
        for start in range(0, rows, _BLOCK):
            yield from self.column(np.arange(start, min(start + _BLOCK, rows)))[self.by]

    def column(self, rows: np.ndarray) -> dict[str, list[Any]]:
        """FILE_COLUMN -> the names of these rows of the split, or ROW_COLUMN -> their numbers from 1: in the
        decoded data set, the same whatever the seed, or of an older store in the split. None stands for a row
        that was made up.
        """
        numbers = (rows if self.numbers is None else self.numbers[rows]).tolist()
        names = self.names if self.by == FILE_COLUMN else None
        called: Callable[[int], Any] = names or (lambda number: number + 1)
        return {self.by: [None if number < 0 else called(number) for number in numbers]}

    def words(self, rows: np.ndarray) -> list[str]:
        """The same for a sentence: "cat/1.png", "row 17"."""
        before = "row " if self.by == ROW_COLUMN else ""
        return ["made up" if value is None else f"{before}{value}" for value in self.column(rows)[self.by]]


def known_by(data: Artifact, splits: Sequence[str]) -> dict[str, KnownBy]:
    """Of these splits of a prepared data set; it is opened once."""
    numbers = {split: decoded_numbers(data, split) for split in splits}
    known = any(found is not None for found in numbers.values())
    names: dict[Path, Callable[[int], str] | None] = {}
    for split in splits if known else ():
        folder = folder_of_rows(data, split)
        names[folder] = names.get(folder) or row_names(folder)
    return {
        split: KnownBy(found, names.get(folder_of_rows(data, split)) if known else None)
        for split, found in numbers.items()
    }


def decoded_numbers(data: Artifact, split: str) -> np.ndarray | None:
    """(N,) int64: the numbers of a split's rows in the decoded data set that they come from
    (`folder_of_rows`), through its parts in order, -1 of those that were made up; None where an older store
    does not tell."""
    own = array_files(data.path, f"{split}.{INPUTS}")
    file = data.file(f"{split}.{ORIGIN if own else ROW_NUMBERS}.npy")
    if DECODED not in data.json("data.json") or not file.is_file():
        return None
    found: np.ndarray = np.load(file)
    return found


def folder_of_rows(data: Artifact, split: str) -> Path:
    """Where the decoded rows of a split lie: those of the data set, or of another whose rows stand in for
    its own."""
    about = data.json("data.json")
    return decoded_folder(data, {DECODED: about.get(ORIGINS, {}).get(split, about[DECODED])})


def row_names(folder: Path) -> Callable[[int], str] | None:
    """number of a decoded row -> what the data set calls it; None where it has no names for its rows, or the
    decoded rows are gone. folder: of the decoded rows."""
    if not (folder / RAW_JSON).is_file():
        return None
    raw: Raw = open_raw(folder, class_of)
    parts = [part for part in PARTS if raw.part(part)[0] is not None]
    if not all(part in raw.names for part in parts):
        return None
    ends = np.cumsum([rows_of(raw.part(part)[0]) for part in parts])
    return functools.partial(_name, raw, parts, ends)


def _name(raw: Raw, parts: Sequence[str], ends: np.ndarray, number: int) -> str:
    place = int(np.searchsorted(ends, number, side="right"))
    return raw.name(parts[place], number - (int(ends[place - 1]) if place else 0))
