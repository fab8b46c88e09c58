"""Columns of rows kept in a small array and opened again: numbers as they are, texts by their place in a list
of the different ones. Numpy only, so that who reads them needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdx.data.new_rows.rows import FILE_COLUMN
from kdx.data.words import keep_words, open_words

PREDICTIONS_JSON = "predictions.json"
"""The file that tells of the kept rows of a run, split by split: what `KeptRows` is opened with."""


class ColumnKeeper:
    """Takes columns block by block, each block with the same headers; holds a code of one, two or four bytes
    for a text."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {}
        self._places: dict[str, dict[Any, int]] = {}

    def add(self, block: Mapping[str, Sequence[Any]]) -> None:
        """block: header -> a value for each row: texts or None, or an array of numbers."""
        for name, values in block.items():
            if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
                found = values
            else:
                places = self._places.setdefault(name, {})
                codes = [places.setdefault(value, len(places)) for value in _plain(values)]
                found = np.array(codes, np.int64).astype(np.min_scalar_type(max(len(places) - 1, 0)))
            self._parts.setdefault(name, []).append(found)

    def columns(self) -> dict[str, tuple[np.ndarray, list[Any] | None]]:
        """header -> (its values, or the place of each in the list beside it)"""
        return {
            name: (np.concatenate(parts), list(self._places[name]) if name in self._places else None)
            for name, parts in self._parts.items()
        }


def _plain(values: Any) -> Sequence[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else values


def keep_columns(
    folder: Path, file: str, columns: Mapping[str, tuple[np.ndarray, list[Any] | None]]
) -> dict[str, Any]:
    """Writes what `ColumnKeeper.columns` gave, or several of these together, all of N rows. Returns what
    `KeptColumns` needs to read it, as plain data.
    """
    dtype = [(f"c{place}", array.dtype) for place, (array, _) in enumerate(columns.values())]
    rows = np.empty(len(next(iter(columns.values()))[0]), dtype)
    about = []
    for place, (name, (array, words)) in enumerate(columns.items()):
        rows[f"c{place}"] = array
        about.append({"name": name} | ({} if words is None else {"words": words}))
    np.save(folder / file, rows)
    return {"file": file, "columns": about}


class KeptColumns:
    """What `keep_columns` wrote; rows are read as they are asked for."""

    def __init__(self, folder: Path, about: Mapping[str, Any]):
        self._rows = np.load(folder / about["file"], mmap_mode="r")
        self._columns = about["columns"]

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def names(self) -> list[str]:
        return [column["name"] for column in self._columns]

    def take(self, rows: slice | Sequence[int]) -> dict[str, Any]:
        """header -> texts, or an array of numbers, of these rows"""
        some = np.array(self._rows[rows])
        found: dict[str, Any] = {}
        for place, column in enumerate(self._columns):
            values, words = some[f"c{place}"], column.get("words")
            found[column["name"]] = values if words is None else [words[code] for code in values.tolist()]
        return found


def keep_known(
    folder: Path,
    name: str,
    known_by: tuple[str, Iterable[Any]],
    columns: Mapping[str, tuple[np.ndarray, list[Any] | None]],
) -> dict[str, Any]:
    """What is known of the rows of a split, whoever answers: (FILE_COLUMN, their names) or (ROW_COLUMN, their
    numbers), and columns of their truth. Writes NAME.npy, and of names NAME.words.npy and NAME.ends.npy.
    """
    by, values = known_by
    found: dict[str, Any] = {"rows": len(next(iter(columns.values()))[0])}
    if by == FILE_COLUMN:
        keep_words(values, folder, name)
        found["names"] = name
    else:
        numbers = np.fromiter(values, np.int64)
        columns = {by: (numbers.astype(np.min_scalar_type(numbers.max(initial=0))), None), **columns}
    return found | {"known": keep_columns(folder, f"{name}.npy", columns)}


class KeptRows:
    """The rows of a split with what is known of them and what was answered. about: what `keep_known` gave,
    and by name of weights what `keep_columns` gave of the answers. which: these weights."""

    def __init__(self, folder: Path, about: Mapping[str, Any], which: str):
        self._names = open_words(folder, about["names"]) if "names" in about else None
        self._parts = [KeptColumns(folder, about[key]) for key in ("known", which) if key in about]
        self.count = int(about["rows"])

    @property
    def headers(self) -> list[str]:
        own = [FILE_COLUMN] if self._names is not None else []
        return [*own, *(name for part in self._parts for name in part.names)]

    def take(self, rows: slice | Sequence[int]) -> dict[str, Any]:
        """header -> texts, or an array of numbers, of these rows: what they are known by, the truth, and the
        answers."""
        found: dict[str, Any] = {}
        if self._names is not None:
            numbers = range(self.count)[rows] if isinstance(rows, slice) else rows
            found[FILE_COLUMN] = [self._names[number] for number in numbers]
        for part in self._parts:
            found |= part.take(rows)
        return found
