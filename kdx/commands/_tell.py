"""What is said of a run while it works and when it ends: in full where it is the only one, in a line where it is one of a sweep."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from kdx.report.judge import metric, percent, points
from kdx.store import Listener
from kdx.wiring import Order


class Alone:
    """A run of its own: bars or lines as it goes, then the table. command: what was called."""

    def __init__(self, command: str = "train"):
        self.command = command

    def progress(self) -> AbstractContextManager[Listener]:
        from kdx.report.progress import Progress

        return Progress()

    def done(self, folder: Any, results: Mapping, headline: str, audit: Mapping | None) -> None:
        from kdx.report.table import print_table

        place = os.path.relpath(folder.path)
        print_table(results, headline, folder.warnings, audit=audit)
        print(f"\nrun folder: {place}   (report.md, run.json; curves: kdx board {place})")

    def failed(self, reason: str, path: os.PathLike) -> None:
        print(f"{reason}\nthe run failed; its traceback is in {os.path.relpath(path)}/run.json", file=sys.stderr)

    def interrupted(self, order: Order, words: Sequence[str]) -> None:
        print(f"interrupted; what is finished is in {order.store}. Go on with: {shlex.join(['kdx', self.command, *words])}", file=sys.stderr)


class InSweep:
    """One of several. label: which one. alone: whether it has the terminal for itself, or others run beside it."""

    def __init__(self, label: str, alone: bool):
        self.label, self.alone, self.command = label, alone, "train"
        self.began = time.monotonic()

    def progress(self) -> AbstractContextManager[Listener]:
        from kdx.report.progress import Progress

        return Progress() if self.alone and sys.stderr.isatty() else nullcontext(Listener())

    def done(self, folder: Any, results: Mapping, headline: str, audit: Mapping | None) -> None:
        from kdx.report.progress import duration

        told = [f"{name} {percent(value)}" for name, role in (("teacher", "teacher"), ("alone", "baseline"), ("distilled", "student"))
                if (value := metric(results, role, results.get("headline") or headline, "test", "accuracy")) is not None]  # fmt: skip
        told += [f"gain {points(results['gain'])}"] if results.get("gain") is not None else []
        told += [f"{len(folder.warnings)} warning{'s' * (len(folder.warnings) > 1)} in report.md"] if folder.warnings else []
        print(f"{self.label}: {', '.join(told) or 'done'} ({duration(time.monotonic() - self.began)})", flush=True)

    def failed(self, reason: str, path: os.PathLike) -> None:
        print(f"{self.label}: FAILED: {reason.splitlines()[0]}", file=sys.stderr, flush=True)

    def interrupted(self, order: Order, words: Sequence[str]) -> None:
        """The sweep tells it, once."""
