"""Bytes of .npy files: what they begin with, read where they are asked for, and let go of. Numpy only."""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Sequence
from typing import Any

import numpy as np


def read_at(file: io.BufferedReader, room: memoryview, offset: int) -> int:
    """Bytes of a file from one on, whatever other threads read of it; how many there were."""
    if "preadv" in vars(os):
        return os.preadv(file.fileno(), [room], offset)
    with open(file.name, "rb") as own:
        own.seek(offset)
        return own.readinto(room)


def header_of(shape: Sequence[int], dtype: np.dtype[Any]) -> bytes:
    """What a .npy file begins with."""
    head = io.BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(head, about)
    return head.getvalue()


def let_go(value: Any) -> None:
    """Of a memory map: its pages leave this process, and stay where the system keeps files."""
    base = value
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and (held := base._mmap) is not None:
            if "MADV_DONTNEED" in vars(mmap):
                held.madvise(mmap.MADV_DONTNEED)
            return
        base = base.base
