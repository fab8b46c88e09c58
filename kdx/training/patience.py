"""What tells a process that hangs from one that computes: whether it has come to the exchange in which the
first one waits for it. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

_STOPPED = 2.5
"""Seconds without a sign of life, of which there is one each second."""


class _Here:
    """Of this process: exchanges begun so far, of which all have the same number; since when it is in
    one; where it notes their number."""

    begun = 0
    since: float | None = None
    file: IO[bytes] | None = None


@contextlib.contextmanager
def exchanging() -> Iterator[None]:
    """Around all that waits for the other processes."""
    _Here.begun += 1
    if _Here.file is not None:
        _Here.file.seek(0)
        _Here.file.write(_Here.begun.to_bytes(8, "little"))
    _Here.since = time.monotonic()
    try:
        yield
    finally:
        _Here.since = None


def begin_exchanges(folder: Path | None = None, number: int = 0) -> None:
    """Before the first exchange of some processes. folder: where this one shows how far it is, and that it
    lives."""
    _Here.begun, _Here.file = 0, None
    if folder is not None:
        _Here.file = _place(folder, number).open("wb", buffering=0)
        threading.Thread(target=_live, args=[_place(folder, number)], daemon=True).start()


def _place(folder: Path, number: int) -> Path:
    return folder / f"{number}.at"


def _live(file: Path) -> None:
    with contextlib.suppress(OSError):  # the folder is gone at the end
        while True:
            os.utime(file)
            time.sleep(1)


def hanging(folder: Path, count: int) -> list[int]:
    """The numbers of the processes beside the first that have stopped altogether, else of those
    that have not come to where it is."""
    begun, seen = {}, {}
    for number in range(1, count):
        with contextlib.suppress(OSError):
            begun[number] = int.from_bytes(_place(folder, number).read_bytes(), "little")
            seen[number] = time.time() - _place(folder, number).stat().st_mtime
    stopped = [number for number, ago in seen.items() if ago > _STOPPED]
    least = min(begun.values(), default=_Here.begun)
    return stopped or [number for number, at in begun.items() if at == least < _Here.begun]


@contextlib.contextmanager
def watched(seconds: float, late: Callable[[], None]) -> Iterator[None]:
    """Inside, `late` is called once, in a thread of its own, when this process has waited for others for so
    long."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(min(1.0, seconds / 4)):
            since = _Here.since
            if since is not None and time.monotonic() - since >= seconds:
                late()
                return

    thread = threading.Thread(target=look, name="kdx-patience", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
