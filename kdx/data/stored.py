"""Rows that lie on the disk: written block by block, and read when they are asked for. Numpy only.

They are read with `pread` and not through a memory map: pages of a map count as memory of the process for as
long as they are mapped, and a pass over all rows would hold all of them.
"""

from __future__ import annotations

import copy
import io
import math
import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.core.trees import joined, tree

BLOCK_BYTES = 1 << 24
"""Bytes that are read or written together."""


class StoredRows:
    """Rows of .npy files, one after the other, of which those asked for are read: what stands in for an array
    that is larger than memory.

    files: of the same shape and type but for the number of rows. numbers: (N,) int64, which of their rows
    these are, None: all. It is indexed as an array is along its first axis, and gives arrays. Raises
    UserError where a file is shorter than it says."""

    def __init__(self, files: Sequence[Path], numbers: np.ndarray | None = None):
        self.files = tuple(files)
        heads = [np.load(path, mmap_mode="r") for path in self.files]  # maps no page before it is read
        self._offsets = [head.offset for head in heads]
        self._counts = [len(head) for head in heads]
        self._starts = np.cumsum([0, *self._counts])
        self.dtype, self._row = heads[0].dtype, heads[0].shape[1:]
        self.row_bytes = math.prod(self._row) * self.dtype.itemsize
        self.numbers = numbers
        self._open: list[io.BufferedReader] = []
        del heads

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self._row)

    @property
    def ndim(self) -> int:
        return 1 + len(self._row)

    @property
    def itemsize(self) -> int:
        return int(self.dtype.itemsize)

    @property
    def nbytes(self) -> int:
        return len(self) * self.row_bytes

    def __len__(self) -> int:
        return int(self._starts[-1]) if self.numbers is None else len(self.numbers)

    def take(self, rows: np.ndarray) -> StoredRows:
        """These rows, none of them read yet."""
        return StoredRows(self.files, self._numbers(rows))

    def and_then(self, others: StoredRows) -> StoredRows:
        """These rows and then those."""
        mine = self._numbers(np.arange(len(self)))
        further = others._numbers(np.arange(len(others))) + self._starts[-1]
        return StoredRows([*self.files, *others.files], np.concatenate([mine, further]))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """(n,) int64, each in [0, N) -> (n, ...): those that lie side by side in one go."""
        numbers = self._numbers(rows)
        found = np.empty((len(numbers), *self._row), self.dtype)
        flat = found.reshape(len(numbers), -1).view(np.uint8) if found.size else found
        if not found.size:
            return found
        which = np.searchsorted(self._starts, numbers, side="right") - 1
        breaks = np.flatnonzero((np.diff(numbers) != 1) | (np.diff(which) != 0)) + 1
        for start, stop in zip([0, *breaks.tolist()], [*breaks.tolist(), len(numbers)], strict=True):
            file = int(which[start])
            place = int(numbers[start] - self._starts[file])
            self._into(flat[start:stop], file, self._offsets[file] + place * self.row_bytes)
        return found

    def in_slots(self) -> StoredRows:
        """(N, V, ...) -> (N V, ...), of all rows of the files."""
        if self.numbers is not None:
            raise IndexError("only all rows of a file have their slots side by side")
        found = copy.copy(self)
        slots = self._row[0]
        found._row, found.row_bytes = self._row[1:], self.row_bytes // slots
        found._counts, found._starts = [n * slots for n in self._counts], self._starts * slots
        return found

    def blocks(self, size: int = BLOCK_BYTES) -> Iterator[np.ndarray]:
        """All rows in order, about `size` bytes at a time."""
        step = max(1, size // max(1, self.row_bytes))
        for start in range(0, len(self), step):
            yield self[start : start + step]

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, tuple):  # as of an array: rows first
            return self[rows[0]][(slice(None), *rows[1:])]
        if isinstance(rows, slice):
            return self.read(np.arange(*rows.indices(len(self))))
        asked = np.asarray(rows)
        if asked.dtype == bool:
            asked = np.flatnonzero(asked)
        found = self.read(np.where(asked < 0, asked + len(self), asked).reshape(-1).astype(np.int64))
        return found[0] if asked.ndim == 0 else found

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self.blocks():
            yield from block

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        found = self[:]
        return found if dtype is None else found.astype(dtype)

    def _numbers(self, rows: np.ndarray) -> np.ndarray:
        if len(rows) and not (0 <= int(rows.min()) and int(rows.max()) < len(self)):
            raise IndexError(f"rows from {int(rows.min())} to {int(rows.max())} of {len(self)}")
        return rows if self.numbers is None else self.numbers[rows]

    def _into(self, room: np.ndarray, file: int, offset: int) -> None:
        view = memoryview(room.reshape(-1))
        while view:
            got = read_at(self._file(file), view, offset)
            if not got:
                raise UserError(
                    f"'{self.files[file]}' is shorter than it says: it is damaged, or was cut while it was "
                    "read; run the same command again"
                )
            view, offset = view[got:], offset + got

    def _file(self, number: int) -> io.BufferedReader:
        if not self._open:
            self._open = [path.open("rb") for path in self.files]
        return self._open[number]


def read_at(file: io.BufferedReader, room: memoryview, offset: int) -> int:
    """Bytes of a file from one on, whatever other threads read of it; how many there were."""
    if "preadv" in vars(os):
        return os.preadv(file.fileno(), [room], offset)
    with open(file.name, "rb") as own:
        own.seek(offset)
        return own.readinto(room)


class Writer(ABC):
    """Takes rows block by block."""

    @abstractmethod
    def append(self, rows: np.ndarray) -> None:
        """rows: (n, ...)"""

    @abstractmethod
    def close(self) -> Any:
        """All of them, as an array or as StoredRows."""


Writers = Callable[[str, int, Sequence[int], Any], Writer]
"""(a part of a data set, the most rows that it will have, the shape of one, their type) -> who takes them."""


class InMemory(Writer):
    """Rows in one array."""

    def __init__(self, part: str, most: int, shape: Sequence[int], dtype: Any):
        self._rows, self._done = np.empty((most, *shape), dtype), 0

    def append(self, rows: np.ndarray) -> None:
        self._rows[self._done : self._done + len(rows)] = rows
        self._done += len(rows)

    def close(self) -> np.ndarray:
        return self._rows[: self._done]


class OnDisk(Writer):
    """Rows in a .npy file, written as they come: its header, which tells their number, is written last."""

    def __init__(self, path: Path, shape: Sequence[int], dtype: Any):
        self.path, self._shape, self._dtype, self._done = path, tuple(shape), np.dtype(dtype), 0
        self._file = path.open("wb")
        self._file.write(self._header())

    def append(self, rows: np.ndarray) -> None:
        """Raises ValueError where rows are of another shape or type."""
        if rows.shape[1:] != self._shape or rows.dtype != self._dtype:
            raise ValueError(f"rows of {self._shape} {self._dtype}, and not of {rows.shape[1:]} {rows.dtype}")
        self._file.write(np.ascontiguousarray(rows).data)
        self._done += len(rows)

    def close(self) -> StoredRows:
        self._file.seek(0)
        self._file.write(self._header())
        self._file.close()
        return StoredRows([self.path])

    def _header(self) -> bytes:
        """As `np.save` writes it; it has one length for any number of rows."""
        return header_of((self._done, *self._shape), self._dtype)


def header_of(shape: Sequence[int], dtype: np.dtype[Any]) -> bytes:
    """What a .npy file begins with."""
    head = io.BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(head, about)
    return head.getvalue()


def in_blocks(value: Any, size: int = BLOCK_BYTES) -> Iterator[np.ndarray]:
    """The rows of an array, a memory map or StoredRows in order, about `size` bytes at a time; what is mapped
    is let go after each."""
    if isinstance(value, StoredRows):
        yield from value.blocks(size)
        return
    each = max(1, math.prod(value.shape[1:]) * value.dtype.itemsize)
    for start in range(0, len(value), max(1, size // each)):
        yield value[start : start + max(1, size // each)]
        let_go(value)


def let_go(value: Any) -> None:
    """Of a memory map: its pages leave this process, and stay where the system keeps files."""
    base = value
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and (held := base._mmap) is not None:
            if "MADV_DONTNEED" in vars(mmap):
                held.madvise(mmap.MADV_DONTNEED)
            return
        base = base.base


def write_array(path: Path, value: Any) -> None:
    """The same file as `np.save` makes of a contiguous array, of any size."""
    writer = OnDisk(path, value.shape[1:], value.dtype)
    for block in in_blocks(value):
        writer.append(np.asarray(block))
    writer.close()


def taken(value: Any, rows: np.ndarray) -> Any:
    """These rows of an array, or of each of several by name; of StoredRows none is read yet."""
    return tree(lambda leaf: leaf.take(rows) if isinstance(leaf, StoredRows) else leaf[rows], value)


def after(first: Any, then: Any) -> Any:
    """The rows of an array, or of each of several by name, and then those of another."""
    if isinstance(first, Mapping):
        return {name: after(leaf, then[name]) for name, leaf in first.items()}
    return first.and_then(then) if isinstance(first, StoredRows) else joined([first, then])
