"""What a stopped labelling stage left: which of its answers are still what was written, and can be gone on
with.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.core.files import read_json
from kdx.data.npy import let_go
from kdx.data.ragged import RAGGED_FILES
from kdx.store.work import Work

_ROWS, _BYTES = 1 << 14, 1 << 26
"""Rows of answers that are looked at together, and bytes."""


def answered(work: Work, wanted: Mapping[str, tuple[int, int]]) -> dict[tuple[str, int], tuple[float, str]]:
    """(file, slot) -> (seconds until it was done, digest) of each view that a stopped run had answered;
    whoever uses the answers compares the digest.
    """
    for path in [found for suffix in (".npy", *RAGGED_FILES) for found in work.path.glob(f"*{suffix}")]:
        if path.name.partition(".")[0] not in wanted:
            path.unlink()
    if not work.checkpoint.exists():
        return {}
    try:
        found = {(name, slot): (took, held) for name, slot, took, held in read_json(work.checkpoint)}
    except (UserError, TypeError, ValueError) as error:
        work.begin_anew(str(error).splitlines()[0][:200])
        return {}
    good = {(name, slot) for name, (count, _) in wanted.items() for slot in range(count)}
    return {which: held for which, held in found.items() if which in good and isinstance(held[0], float)}


def open_answers(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], *, fresh: bool
) -> np.memmap[Any, Any]:
    """The file of one split's answers, (N, V, ...), written as it is filled: that of a stopped run where it
    is still what it was made as.
    """
    if not fresh and _as_made(path, shape, dtype):
        return np.lib.format.open_memmap(path, mode="r+")
    path.unlink(missing_ok=True)
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def _as_made(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether a file has the header and the length of one that was made for answers of this shape: of what
    follows its header, digests tell.
    """
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": dtype.str, "fortran_order": False, "shape": shape})
    wanted = head.getvalue()
    try:
        with path.open("rb") as file:
            size = len(wanted) + dtype.itemsize * math.prod(shape)
            return file.read(len(wanted)) == wanted and path.stat().st_size == size
    except OSError:
        return False


def view_digest(work: Work, files: Mapping[str, Any], name: str, slot: int, took: float) -> str:
    """Of one view's answers, bound to the stage, the split, the view and the time that it took to come so
    far. files: by name of their arrays.
    """
    whole = hashlib.sha256(f"{work.key} {name} {slot} {took}\n".encode())
    for file in files.values():
        rows = max(1, min(_ROWS, _BYTES // max(1, math.prod(file.shape[2:]) * file.dtype.itemsize)))
        for start in range(0, len(file), rows):
            whole.update(np.ascontiguousarray(file[start : start + rows, slot]).data)
            let_go(file)
    return whole.hexdigest()
