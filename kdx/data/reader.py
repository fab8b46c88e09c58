"""What stands in a Split, or among stored answers, in place of a tensor of rows that are read when they are
asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdx.data.stored import ChosenWindow, LazyRows, StoredRows


class Reader(ABC):
    """Rows by their numbers, as a tensor has them along its first axis: it knows its shape and type, gives
    rows by `index_select`, by a slice and by an index, and nothing else. They come on the CPU. Threads may
    ask at the same time. Subclasses are final."""

    device = torch.device("cpu")

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Rows first."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype: ...

    @abstractmethod
    def read(self, rows: np.ndarray) -> Tensor:
        """(n,) int64, each in [0, N) -> (n, ...)"""

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """dim: 0"""
        if dim:
            raise IndexError(f"rows lie along the axis 0; asked for {dim}")
        return self.read(index.cpu().numpy())

    def __getitem__(self, rows: Any) -> Tensor:
        if isinstance(rows, slice):
            return self.read(np.arange(*rows.indices(len(self))))
        asked = np.asarray(rows)
        asked = np.flatnonzero(asked) if asked.dtype == bool else asked
        found = self.read(np.where(asked < 0, asked + len(self), asked).reshape(-1).astype(np.int64))
        return found[0] if asked.ndim == 0 else found

    def flatten(self, first: int, last: int) -> Reader:
        """first, last: 0 and 1. (N, V, ...) -> (N V, ...)"""
        if (first, last) != (0, 1):
            raise IndexError(f"the axes 0 and 1 become one; asked for {first} to {last}")
        return self.in_slots()

    @abstractmethod
    def in_slots(self) -> Reader:
        """Of (N, V, ...) rows the slots of all, row by row. Raises IndexError where rows have none."""


class OfArray(Reader):
    """Rows that numpy gives, such as those of arrays on the disk."""

    def __init__(self, rows: LazyRows):
        self.rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rows.shape

    @property
    def dtype(self) -> torch.dtype:
        return torch.from_numpy(np.empty(0, self.rows.dtype)).dtype

    def read(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(self.rows.read(rows))

    def in_slots(self) -> OfArray:
        if not isinstance(self.rows, StoredRows):
            raise IndexError("only arrays have slots")
        return OfArray(self.rows.in_slots())

    def cropped(self, rows: Tensor, draws: Tensor, window: ChosenWindow) -> Tensor:
        """(n,) rows, (n, d) numbers in [0, 1): see kdx.data.stored.LazyRows."""
        return torch.from_numpy(self.rows.cropped(rows.cpu().numpy(), draws.cpu().numpy(), window))


def tensor_of(rows: LazyRows, device: torch.device | str) -> Tensor:
    """All of them on a device, brought there block by block."""
    if torch.device(device).type == "cpu":
        return torch.from_numpy(rows[:])
    found = torch.empty(rows.shape, dtype=OfArray(rows).dtype, device=device)
    start = 0
    for block in rows.blocks():
        found[start : start + len(block)] = torch.from_numpy(block).to(device)
        start += len(block)
    return found


def open_array(path: Path, most: int, device: torch.device | str) -> Tensor | OfArray:
    """A .npy file as a tensor on the device where it has at most so many bytes, else read as it is asked
    for."""
    rows = StoredRows([path])
    return tensor_of(rows, device) if rows.nbytes <= most else OfArray(rows)
