"""One GPU a run: of several, a process takes the first that no other kdx process on this machine has, and
keeps it. No torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_held: dict[tuple[str, ...], tuple[int, Any]] = {}


def take(names: Sequence[str]) -> int:
    """The place in `names` of what this process may use; asked again, the same. Where all are taken, they are
    shared out by process number.

    names: of each thing, the same in every process (a GPU's serial number, as CUDA's own numbers depend on
    CUDA_VISIBLE_DEVICES). A lock that the process holds until it ends, however it ends, says that a thing is
    taken.
    """
    import tempfile

    import filelock

    if tuple(names) in _held:
        return _held[tuple(names)][0]
    place = Path(tempfile.gettempdir()) / f"kdx-{os.getuid() if 'getuid' in vars(os) else 'user'}"
    place.mkdir(exist_ok=True, mode=0o700)
    for number, name in enumerate(names):
        lock = filelock.FileLock(place / f"{re.sub(r'[^A-Za-z0-9-]', '-', name)}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            continue
        _held[tuple(names)] = number, lock
        return number
    _held[tuple(names)] = os.getpid() % len(names), None
    return _held[tuple(names)][0]
