"""Rows that lie on the disk: written block by block, and read when they are asked for. Numpy only.

They are read with `pread` and not through a memory map: pages of a map count as memory of the process for as
long as they are mapped, and a pass over all rows would hold all of them.
"""

from __future__ import annotations

import copy
import io
import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from kdx.core.errors import UserError
from kdx.core.trees import joined, tree
from kdx.data.npy import header_of, let_go, read_at

BLOCK_BYTES = 1 << 24
"""Bytes that are read or written together."""


class LazyRows(ABC):
    """Rows that are read when they are asked for: what stands in for an array that is larger than memory. It
    is indexed as an array is along its first axis, and gives arrays; threads may ask at the same time.
    """

    dtype: np.dtype[Any]
    numbers: np.ndarray | None = None
    """(N,) int64: which of the rows that lie there these are, None: all."""
    cheap = True
    """Whether all rows may be read only to look at them."""
    crops = False
    """Whether a row holds more than its array shows, so that `cropped` may choose."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Rows first."""

    @abstractmethod
    def read(self, rows: np.ndarray) -> np.ndarray:
        """(n,) int64, each in [0, N) -> (n, ...)"""

    @abstractmethod
    def take(self, rows: np.ndarray) -> Self:
        """These rows, none of them read yet."""

    @abstractmethod
    def and_then(self, others: Self) -> Self:
        """These rows and then those."""

    def cropped(self, rows: np.ndarray, draws: np.ndarray, window: ChosenWindow) -> np.ndarray:
        """(n,) rows, (n, d) numbers in [0, 1) each -> (n, ...): the window that is chosen in each, at full
        resolution, in the shape of a row."""
        raise TypeError(f"{type(self).__name__} holds no more than it shows")

    def digest(self) -> str | None:
        """What its rows are known by without reading them; None: by themselves."""
        return None

    def keep(self, folder: Path, name: str) -> None:
        """Lays down what `open` needs, in files that begin with the name."""
        write_array(folder / f"{name}.npy", self)

    @classmethod
    def open(cls, folder: Path, names: Sequence[str], places: Mapping[str, str]) -> LazyRows:
        """Rows that were kept under these names, one after the other. places: where the files of the data set
        lie now, by its keys."""
        return StoredRows([folder / f"{name}.npy" for name in names])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        return int(self.dtype.itemsize)

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.itemsize

    @property
    def nbytes(self) -> int:
        return len(self) * self.row_bytes

    def __len__(self) -> int:
        return self.shape[0]

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
        # one look for both ends: as uint64 what is below 0 is far above all
        if len(rows) and int(np.asarray(rows, np.int64).view(np.uint64).max()) >= len(self):
            raise IndexError(f"rows from {int(rows.min())} to {int(rows.max())} of {len(self)}")
        return rows if self.numbers is None else self.numbers[rows]


ChosenWindow = Callable[[Sequence[float], int, int], tuple[int, int, int, int, bool]]
"""(numbers in [0, 1), width, height) -> (left, top, width, height of what is seen, whether mirrored)"""


class StoredRows(LazyRows):
    """Rows of .npy files, one after the other.

    files: of the same shape and type but for the number of rows. numbers: (N,) int64, which of their rows
    these are, None: all. Raises UserError where a file is shorter than it says.
    """

    def __init__(self, files: Sequence[Path], numbers: np.ndarray | None = None):
        self.files = tuple(files)
        heads = [np.load(path, mmap_mode="r") for path in self.files]  # maps no page before it is read
        self._offsets = [head.offset for head in heads]
        self._starts = np.cumsum([0, *map(len, heads)])
        self.dtype, self._row = heads[0].dtype, heads[0].shape[1:]
        self._begins = (self._starts * self.row_bytes).tolist()  # of each file, in the bytes of all
        self.numbers = numbers
        self._open: list[io.BufferedReader] = []
        del heads

    @property
    def shape(self) -> tuple[int, ...]:
        return (int(self._starts[-1]) if self.numbers is None else len(self.numbers), *self._row)

    def take(self, rows: np.ndarray) -> StoredRows:
        return StoredRows(self.files, self._numbers(rows))

    def and_then(self, others: StoredRows) -> StoredRows:
        mine = self._numbers(np.arange(len(self)))
        further = others._numbers(np.arange(len(others))) + self._starts[-1]
        return StoredRows([*self.files, *others.files], np.concatenate([mine, further]))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Those that lie side by side in one go."""
        numbers = self._numbers(rows)
        found = np.empty((len(numbers), *self._row), self.dtype)
        if not found.size:
            return found
        room, each = memoryview(found.reshape(-1).view(np.uint8)), self.row_bytes
        starts = [0, *((numbers[1:] - numbers[:-1] != 1).nonzero()[0] + 1).tolist()]
        ends = [*starts[1:], len(numbers)]
        for start, end, number in zip(starts, ends, numbers[starts].tolist(), strict=True):
            self._into(room[start * each : end * each], number * each)
        return found

    def in_slots(self) -> StoredRows:
        """(N, V, ...) -> (N V, ...), of all rows of the files."""
        if self.numbers is not None:
            raise IndexError("only all rows of a file have their slots side by side")
        found = copy.copy(self)
        found._row, found._starts = self._row[1:], self._starts * self._row[0]
        return found

    def _into(self, view: memoryview, begin: int) -> None:
        """begin: where it stands in the bytes of all files' rows, one after the other."""
        while view:
            file = bisect_right(self._begins, begin) - 1
            offset, left = self._offsets[file] + begin - self._begins[file], self._begins[file + 1] - begin
            got = read_at(self._file(file), view[:left], offset)
            if not got:
                raise UserError(
                    f"'{self.files[file]}' is shorter than it says: it is damaged, or was cut while it was "
                    "read; run the same command again"
                )
            view, begin = view[got:], begin + got

    def _file(self, number: int) -> io.BufferedReader:
        if not self._open:
            self._open = [path.open("rb") for path in self.files]
        return self._open[number]


class Writer(ABC):
    """Takes rows block by block."""

    @abstractmethod
    def append(self, rows: np.ndarray) -> None:
        """rows: (n, ...)"""

    @abstractmethod
    def close(self) -> Any:
        """All of them, as an array or as LazyRows."""


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


class Nowhere(Writer):
    """Forgets rows at once."""

    def append(self, rows: np.ndarray) -> None:
        pass

    def close(self) -> np.ndarray:
        return np.empty(0, np.uint8)


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


def in_blocks(value: Any, size: int = BLOCK_BYTES) -> Iterator[np.ndarray]:
    """The rows of an array, a memory map or LazyRows in order, about `size` bytes at a time; what is mapped
    is let go after each."""
    if isinstance(value, LazyRows):
        yield from value.blocks(size)
        return
    each = max(1, math.prod(value.shape[1:]) * value.dtype.itemsize)
    for start in range(0, len(value), max(1, size // each)):
        yield value[start : start + max(1, size // each)]
        let_go(value)


def write_array(path: Path, value: Any) -> None:
    """The same file as `np.save` makes of a contiguous array, of any size."""
    writer = OnDisk(path, value.shape[1:], value.dtype)
    for block in in_blocks(value):
        writer.append(np.asarray(block))
    writer.close()


def taken(value: Any, rows: np.ndarray) -> Any:
    """These rows of an array, or of each of several by name; of LazyRows none is read yet."""
    return tree(lambda leaf: leaf.take(rows) if isinstance(leaf, LazyRows) else leaf[rows], value)


def after(first: Any, then: Any) -> Any:
    """The rows of an array, or of each of several by name, and then those of another."""
    if isinstance(first, Mapping):
        return {name: after(leaf, then[name]) for name, leaf in first.items()}
    return first.and_then(then) if isinstance(first, LazyRows) else joined([first, then])
