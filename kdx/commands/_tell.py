"""What is said of a run while it works and when it ends: in full where it is the only one, in a line where it
is one of a sweep.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from kdx.commands._watch import failure, result_line
from kdx.config.options import unslotted
from kdx.config.wire import Order
from kdx.core import output
from kdx.core.documents import plain
from kdx.core.errors import UserError
from kdx.core.folded import columns_of, say
from kdx.store.resolve import error_in_one_line, own_error
from kdx.store.work import Listener


def error_line(error: Exception) -> str:
    """Of the user's own code with its file and line."""
    return str(error) if isinstance(error, UserError) else own_error(error) or error_in_one_line(error)


def where(error: Exception, path: os.PathLike, order: Order) -> str:
    """Where to look next. A UserError is the user's to mend, or was asked for, as by a gate: no traceback
    tells more of it.
    """
    if isinstance(error, UserError):
        return f"the run stopped; what is finished is in {order.store}"
    return f"the run failed; its traceback is in {os.path.relpath(path)}/run.json"


def run_document(path: os.PathLike, run: Mapping[str, Any]) -> dict[str, Any]:
    """What --json says of a run: its folder, and of its run.json how it ended and what it found."""
    kept = ("status", "error", "seconds", "stages", "results", "gate", "audit", "warnings")
    return plain({"folder": os.path.relpath(path), **{key: run[key] for key in kept if key in run}})


class Alone:
    """A run of its own: bars or lines as it goes, then the table. command: what was called."""

    def __init__(self, command: str = "train"):
        self.command = command

    def progress(self) -> AbstractContextManager[Listener]:
        from kdx.report.run.progress import Progress

        return Progress()

    def done(self, folder: Any, results: Mapping, headline: str, audit: Mapping | None) -> None:
        from kdx.report.run.table import print_table

        place = os.path.relpath(folder.path)
        if self.command == "train" and output.wants_document():
            output.answer(run_document(folder.path, folder.run))
            return
        print_table(results, headline, folder.warnings, audit=audit)
        lines = [f"\nrun folder: {place}", "report.html, report.md, run.json", f"curves: kdx board {place}"]
        line, wide = f"{lines[0]}   ({lines[1]}; {lines[2]})", columns_of(sys.stdout)
        print(line if wide is None or len(line) <= wide else "\n  ".join(lines))
        output.instead(f"the run is finished, and its table is in {place}/report.md")

    def failed(self, error: Exception, path: os.PathLike, order: Order) -> None:
        text = f"{error_line(error)}\n{where(error, path, order)}"
        if self.command == "train":
            about = {"folder": os.path.relpath(path), "status": "failed", "error": error_line(error)}
            output.report_error(text, about)
        else:
            say(text, sys.stderr)

    def interrupted(self, order: Order, words: Sequence[str]) -> None:
        print(
            f"interrupted; what is finished is in {order.store}. Go on with: "
            f"{shlex.join(['kdx', self.command, *map(unslotted, words)])}",
            file=sys.stderr,
        )


class InSweep:
    """One of several, in the process that was called. label: which one."""

    command = "train"

    def __init__(self, label: str):
        self.label = label

    def progress(self) -> AbstractContextManager[Listener]:
        from kdx.report.run.progress import Progress

        return Progress() if sys.stderr.isatty() else nullcontext(Listener())

    def done(self, folder: Any, results: Mapping, headline: str, audit: Mapping | None) -> None:
        print(result_line(self.label, folder.run), flush=True)

    def failed(self, error: Exception, path: os.PathLike, order: Order) -> None:
        print(failure(self.label, error_line(error)), file=sys.stderr, flush=True)

    def interrupted(self, order: Order, words: Sequence[str]) -> None:
        """The sweep tells it, once."""


class Elsewhere:
    """One of several, in a process that a launcher has made: `Watch` tells of it where the command was
    called.
    """

    command = "train"

    def progress(self) -> AbstractContextManager[Listener]:
        return nullcontext(Listener())

    def done(self, folder: Any, results: Mapping, headline: str, audit: Mapping | None) -> None: ...

    def failed(self, error: Exception, path: os.PathLike, order: Order) -> None: ...

    def interrupted(self, order: Order, words: Sequence[str]) -> None: ...


Teller = Alone | InSweep | Elsewhere
