"""Texts in one long array of bytes, read as they are asked for. Numpy only."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from array import array as packed
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from kdx.data.stored import Writer

_BUFFER = 1 << 20


class WordsOnDemand(Sequence[str]):
    """Words that are read, or made, as they are asked for."""

    @abstractmethod
    def at(self, place: int) -> str:
        """place: from 0 to N - 1"""

    def several(self, numbers: np.ndarray) -> list[str]:
        """(n,) int64 -> these words"""
        return [self.at(place) for place in numbers.tolist()]

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return self.several(np.arange(*number.indices(len(self))))
        return self.at(range(len(self))[number])


@dataclass(frozen=True, eq=False)
class StoredTexts(WordsOnDemand):
    """letters: (B,) uint8, an array or StoredRows: the texts one after the other, in UTF-8. ends: (N,) int64,
    where each ends.
    """

    letters: Any
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    def at(self, place: int) -> str:
        start = int(self.ends[place - 1]) if place else 0
        return _text(self.letters[start : int(self.ends[place])])

    def several(self, numbers: np.ndarray) -> list[str]:
        """(n,) int64 -> these texts; what lies between them is read too where that is not much more."""
        if not len(numbers):
            return []
        stops = self.ends[numbers]
        starts = np.where(numbers > 0, self.ends[numbers - 1], 0)
        first, last = int(starts.min()), int(stops.max())
        if last - first > 4 * int((stops - starts).sum()) + _BUFFER:
            return [_text(self.letters[a:b]) for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
        span = self.letters[first:last]
        pairs = zip((starts - first).tolist(), (stops - first).tolist(), strict=True)
        return [_text(span[a:b]) for a, b in pairs]


class DifferentTexts:
    """Takes texts and gives each a number, equal ones the same; by a digest of 16 bytes, so that no text is
    held. writer: takes their letters, None: the texts are held all the same.
    """

    def __init__(self, writer: Writer | None):
        self._writer = writer
        self._known: dict[bytes, int] = {}
        self._held: list[str] = []
        self._ends: list[int] = []
        self._buffer = bytearray()
        self._done = 0

    def number(self, text: str) -> int:
        letters = text.encode("utf-8", "surrogateescape")
        mark = hashlib.blake2b(letters, digest_size=16).digest()
        found = self._known.setdefault(mark, len(self._known))
        if found == len(self._ends):
            self._done += len(letters)
            self._ends.append(self._done)
            if self._writer is None:
                self._held.append(text)
            else:
                self._buffer += letters
                if len(self._buffer) > _BUFFER:
                    self._flush()
        return found

    def close(self) -> Sequence[str]:
        """All of them, in the order of their numbers."""
        if self._writer is None:
            return tuple(self._held)
        self._flush()
        return StoredTexts(self._writer.close(), np.array(self._ends, np.int64))

    def _flush(self) -> None:
        assert self._writer is not None
        self._writer.append(np.frombuffer(bytes(self._buffer), np.uint8))
        self._buffer.clear()


def keep_words(words: Iterable[str], folder: Path, name: str) -> None:
    """Writes NAME.words.npy and NAME.ends.npy. words: looked at once, and not held as such."""
    letters, lengths = bytearray(), packed("q")
    for word in words:
        coded = word.encode("utf-8", "surrogateescape")
        letters += coded
        lengths.append(len(coded))
    np.save(folder / f"{name}.ends.npy", np.cumsum(np.frombuffer(lengths, np.int64), dtype=np.int64))
    np.save(folder / f"{name}.words.npy", np.frombuffer(letters, np.uint8))


def open_words(folder: Path, name: str) -> StoredTexts:
    """What `keep_words` wrote, as memory maps."""
    letters, ends = (np.load(folder / f"{name}.{what}.npy", mmap_mode="r") for what in ("words", "ends"))
    return StoredTexts(letters, ends)


def some_of(texts: Sequence[str], numbers: np.ndarray) -> list[str]:
    """(n,) int64 -> these texts"""
    if isinstance(texts, WordsOnDemand):
        return texts.several(numbers)
    return [texts[i] for i in numbers.tolist()]


def number_of_empty(texts: Sequence[str]) -> int | None:
    """Of different texts: which one has no letter; None: each has some."""
    if isinstance(texts, StoredTexts):
        return next(iter(np.flatnonzero(np.diff(texts.ends, prepend=0) == 0).tolist()), None)
    return next((number for number, text in enumerate(texts) if not text), None)


def _text(letters: np.ndarray) -> str:
    return letters.tobytes().decode("utf-8", "surrogateescape")
