"""Rows of whole numbers of which the first few count, on the disk without the rest: `NAME.bin` holds them one
row after the other, `NAME.starts` where each begins and `NAME.counts` how many count in each of its places.

Seen from outside an array (N, V, ..., most) int64 of N rows in V slots, whose rows end in zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from kdx.data.reader import Reader

RAGGED_DATA, _STARTS, _COUNTS = ".bin", ".starts", ".counts"
RAGGED_FILES = (RAGGED_DATA, _STARTS, _COUNTS)
_HEAD = b"\0\0 draws"
"""What the data begin with: most, width, and what they are."""


def _file(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


class RaggedArray:
    """One such array, read by [rows, slot], written by [rows, slot] = (n, ..., most) where it is `writable`.

    A number is id * 256 + count, stored as an id of `width` bytes and a count of one. Raises OSError or
    ValueError where there is none.
    """

    dtype = np.dtype(np.int64)

    def __init__(self, path: Path, writable: bool = False):
        self.path, self.data = path, _file(path, RAGGED_DATA)
        with self.data.open("rb") as file:
            head = file.read(len(_HEAD))
        if len(head) < len(_HEAD) or head[2:] != _HEAD[2:]:
            raise ValueError(f"'{self.data}' holds no rows of draws")
        self.most, self.width = head[0], head[1]
        mode: Any = "r+" if writable else "r"
        self.starts = np.lib.format.open_memmap(_file(path, _STARTS), mode)
        self.counts = np.lib.format.open_memmap(_file(path, _COUNTS), mode)

    @classmethod
    def lay(cls, path: Path, shape: Sequence[int], width: int) -> RaggedArray:
        """A new one, without rows. shape: (N, V, ..., most), most at most 255; width: bytes of an id."""
        for suffix in RAGGED_FILES:
            _file(path, suffix).unlink(missing_ok=True)
        np.lib.format.open_memmap(_file(path, _STARTS), "w+", np.int64, tuple(shape[:2]))
        np.lib.format.open_memmap(_file(path, _COUNTS), "w+", np.uint8, tuple(shape[:-1]))
        _file(path, RAGGED_DATA).write_bytes(bytes([shape[-1], width]) + _HEAD[2:])
        return cls(path, writable=True)

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.counts.shape, self.most)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def nbytes(self) -> int:
        """On the disk."""
        return self.data.stat().st_size + self.starts.nbytes + self.counts.nbytes

    def __getitem__(self, key: Any) -> Any:
        """[rows, slot]: (n, ..., most); of all rows as an array that is read when it is asked for."""
        rows, slot = key if isinstance(key, tuple) else (key, None)
        if slot is None:
            raise IndexError("a slot is asked for beside the rows")
        if isinstance(rows, slice) and rows == slice(None):
            return RaggedSlot(self, slot if isinstance(slot, slice) else range(self.shape[1])[slot])
        which = np.arange(len(self))[rows]
        return self.read(which, np.full(len(which), slot))

    def __array__(self, kind: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:, :], kind)

    def __setitem__(self, key: tuple[Any, int], value: np.ndarray) -> None:
        rows, slot = np.asarray(key[0]), key[1]
        counts = (value > 0).sum(-1)
        size = self.width + 1
        with self.data.open("ab") as file:
            begin = file.tell()
            sizes = counts.reshape(len(rows), -1).sum(1) * size
            self.starts[rows, slot] = begin + np.cumsum(sizes) - sizes
            self.counts[rows, slot] = counts
            file.write(encoded(value[value > 0], self.width).tobytes())

    def cut(self, slots: Sequence[int]) -> None:
        """Forgets what lies behind the last of these slots: what a stopped run had begun."""
        with self.data.open("r+b") as file:
            file.truncate(max((self.end(slot) for slot in slots), default=len(_HEAD)))

    def end(self, slot: int) -> int:
        """The byte behind the last row of a slot."""
        ends = self.starts[:, slot] + _sums(self.counts[:, slot]) * (self.width + 1)
        return int(ends.max()) if len(ends) else len(_HEAD)

    def read(self, rows: np.ndarray, slots: np.ndarray) -> np.ndarray:
        """(n,), (n,) -> (n, ..., most) int64"""
        counts = self.counts[rows, slots]
        found = np.zeros((*counts.shape, self.most), np.int64)
        sizes = _sums(counts) * (self.width + 1)
        with self.data.open("rb") as file:
            values = _gathered(file, self.starts[rows, slots], sizes)
        found[np.arange(self.most) < counts[..., None]] = decoded(values, self.width)
        return found

    def flush(self) -> None:
        self.starts.flush()
        self.counts.flush()


class RaggedSlot:
    """The rows of one slot, or of several, read when they are asked for."""

    def __init__(self, whole: RaggedArray, slot: int | slice):
        self.whole, self.slot = whole, slot

    @property
    def shape(self) -> tuple[int, ...]:
        rows, slots, *rest = self.whole.shape
        return (rows, *rest) if isinstance(self.slot, int) else (rows, len(range(slots)[self.slot]), *rest)

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, rows: Any) -> np.ndarray:
        which = np.arange(len(self))[rows]
        if isinstance(self.slot, int):
            return self.whole.read(which, np.full(len(which), self.slot))
        several = range(self.whole.shape[1])[self.slot]
        return np.stack([self.whole.read(which, np.full(len(which), slot)) for slot in several], 1)

    def __array__(self, kind: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], kind)


class RaggedReader(Reader):
    """The rows of all slots, row by row, in place of a tensor (N V, ..., most)."""

    def __init__(self, rows: RaggedArray):
        self.rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rows.shape

    @property
    def dtype(self) -> torch.dtype:
        return torch.int64

    def in_slots(self) -> RaggedReader:
        """`read` counts rows so already."""
        return self

    def read(self, rows: np.ndarray) -> Tensor:
        slots = self.rows.shape[1]
        return torch.from_numpy(self.rows.read(rows // slots, rows % slots))


def encoded(values: np.ndarray, width: int) -> np.ndarray:
    """(n,) of id * 256 + count -> (n, width + 1) bytes, the id's from the lowest on."""
    whole = values.astype("<i8")[:, None].view(np.uint8)
    return np.concatenate([whole[:, 1 : width + 1], whole[:, :1]], 1)


def decoded(data: np.ndarray, width: int) -> np.ndarray:
    """(n (width + 1),) bytes -> (n,) int64"""
    rows = data.reshape(-1, width + 1)
    whole = np.zeros((len(rows), 8), np.uint8)
    whole[:, 1 : width + 1], whole[:, 0] = rows[:, :width], rows[:, width]
    return whole.view("<i8")[:, 0].astype(np.int64)


def _sums(counts: np.ndarray) -> np.ndarray:
    """(n, ...) -> (n,) int64"""
    return counts.reshape(len(counts), -1).sum(1, dtype=np.int64)


def _gathered(file: BinaryIO, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Bytes of pieces of a file, one after the other; neighbours are read at once."""
    parts, number = [], 0
    while number < len(starts):
        last = number
        while last + 1 < len(starts) and starts[last + 1] == starts[last] + sizes[last]:
            last += 1
        file.seek(int(starts[number]))
        size = int(starts[last] + sizes[last] - starts[number])
        piece = file.read(size)
        if len(piece) < size:
            raise OSError(
                f"'{file.name}' ends before its rows do: remove its folder, and run the command again"
            )
        parts.append(np.frombuffer(piece, np.uint8))
        number = last + 1
    return np.concatenate(parts) if parts else np.empty(0, np.uint8)
