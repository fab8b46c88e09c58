"""What ends a program from outside (Ctrl-C, a scheduler's SIGTERM, SIGHUP of a closed terminal, a cluster's
warning) as one exception in the main thread. Standard library only.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from kdx.core import cluster

NUMBERS = tuple(vars(signal)[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in vars(signal))
WARNINGS = tuple(vars(signal)[name] for name in ("SIGUSR1", "SIGUSR2") if name in vars(signal))
"""What a cluster sends a job some time before it ends it, where the job asks for that. Elsewhere they mean
what they mean to the caller."""
CODES = tuple(128 + number for number in (*NUMBERS, *WARNINGS))
"""Exit codes of what was stopped, as a shell shows them: 130, 143, 129; 138 and 140 of a warning."""
_came: list[int] = []
"""The signals that came since the outermost `heeded` began."""
_held: list[int] = []
"""For each `held` that is open how many had come before it."""


class Stopped(KeyboardInterrupt):
    """A signal came. Whatever ends well after Ctrl-C does so after the others too."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(int(number))
        self.number = int(number)


def code_of(error: KeyboardInterrupt) -> int:
    """The exit code of a command that this ended."""
    return 128 + (error.number if isinstance(error, Stopped) else signal.SIGINT)


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Inside, each of these signals raises Stopped in the main thread, wherever it is at work: in a stage, an
    import, waiting for a lock.

    What the caller has this process ignore (nohup, a shell's `&`) stays ignored. In a job of a cluster its
    warnings do so too; submitit, which takes the job back into the queue, hears of them once all is kept.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*NUMBERS, *_warned())}
    outermost = _heed not in before.values()
    # None: of a library in C
    ours = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in ours:
        signal.signal(number, _heed)
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
        if outermost:
            warned = [number for number in _came if number in WARNINGS]
            _came.clear()
            if warned and cluster.by_submitit():
                signal.raise_signal(warned[0])


def _warned() -> tuple[int, ...]:
    """The warnings that count here."""
    if cluster.by_submitit():
        return tuple(number for number in WARNINGS if callable(signal.getsignal(number)))
    return WARNINGS if cluster.job() else ()


def requeued(code: int) -> str | None:
    """What became of a job of a cluster whose command ended with this exit code because of a warning; None
    where none ended it."""
    return cluster.requeue() if code - 128 in WARNINGS else None


def end_at_once() -> None:
    """For the end of the program, where libraries take a second to clean up: a Ctrl-C that still comes ends
    it without their tracebacks.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def idle_between_runs() -> None:
    """In a process that a launcher has made for several runs: Ctrl-C between two of them is the command's to
    heed, which then ends this process.
    """
    import multiprocessing  # takes a while, and `kdx --help` needs none of it

    if multiprocessing.parent_process() is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _pass)


def _pass(number: int, frame: Any) -> None: ...


def _heed(number: int, frame: Any) -> None:
    _came.append(number)
    if not _held or len(_came) > _held[-1] + 1:
        raise Stopped(number)


@contextlib.contextmanager
def held() -> Iterator[Callable[[], bool]]:
    """Inside, the first signal is only noted, and the second one raises.
    Yields what tells whether one came.
    """
    before = len(_came)
    _held.append(before)
    try:
        yield lambda: len(_came) > before
    finally:
        _held.pop()


def last() -> Stopped:
    """What the first signal raised, to be raised again; Ctrl-C where none came."""
    return Stopped(_came[0]) if _came else Stopped()


def came() -> bool:
    """Whether a signal came, also where it was held, or where a library swallowed what it raised or made
    another error of it.
    """
    return bool(_came)


def raise_if_stopped() -> None:
    """Raises Stopped where a signal came."""
    if _came:
        raise Stopped(_came[0])
