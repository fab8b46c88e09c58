"""Progress on stderr: bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

from kdx.report.metric import curve_of, live_metric
from kdx.report.run.listeners import Listener, Many

_NOTHING = "-"
_PARTS = 10  # a plain line each tenth of a stage ...
QUIET = 10.0  # ... and after so many seconds of silence, a pause that doubles up to
QUIETEST = 300.0  # this one, so that a night's log stays short
SHORTEST = 1.0  # lines are never closer than this, start and end apart


class Progress(Many):
    """A listener and context manager. console: a rich Console; by default one on stderr. clock: seconds, for
    tests.
    """

    def __init__(self, console: Any = None, clock: Callable[[], float] = time.monotonic):
        from rich.console import Console

        console = console or Console(stderr=True, highlight=False, force_jupyter=False)
        self.view = Bars(console, clock) if console.is_terminal else Lines(console, clock)
        super().__init__(self.view)

    def __enter__(self) -> Self:
        self.view.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Also on Ctrl-C and on errors: the cursor comes back, and the bars stay as they were.
        self.view.stop()


class Bars(Listener):
    """One line a stage: name, bar, step/steps, what it has on validation so far, time left. Notes appear
    above the bars.
    """

    def __init__(self, console: Any, clock: Callable[[], float]):
        from rich import progress as rich

        self.clock = clock
        self.bars = rich.Progress(
            rich.TextColumn("{task.description:<16}"),
            rich.BarColumn(bar_width=24, complete_style="cyan", finished_style="green"),
            rich.TextColumn("{task.fields[count]:>13}"),
            rich.TextColumn("{task.fields[value]:>11}"),
            rich.TextColumn("{task.fields[left]}"),
            console=console,
            refresh_per_second=4,  # more would take time from a training loop that shares the core
            # Only what would land on this terminal is drawn above the bars: a piped stdout must stay what it
            # is.
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        )
        self.tasks: dict[str, Any] = {}
        self.since: dict[str, tuple[float, int]] = {}

    def start(self) -> None:
        self.bars.start()

    def stop(self) -> None:
        self.bars.stop()

    def started(self, name: str, key: str, cached: bool) -> None:
        self.since.pop(name, None)
        self.tasks[name] = self.bars.add_task(
            name, total=None, count="", value="", left="from the store" if cached else ""
        )

    def record(self, name: str, record: dict) -> None:
        if name in self.tasks and (found := _on_validation(record)):
            self.bars.update(self.tasks[name], value=f"val {found[1]}")

    def progress(self, name: str, done: int, total: int, text: str) -> None:
        if name not in self.tasks:
            return
        # Measured from the first step heard of, so that a resumed stage is not thought to have raced through
        # its earlier steps.
        start, first = self.since.setdefault(name, (self.clock(), done))
        left = (self.clock() - start) / (done - first) * (total - done) if done > first else None
        remaining = "" if left is None else f"{duration(left)} left"
        self.bars.update(
            self.tasks[name], completed=done, total=total, count=f"{done}/{total}", left=text or remaining
        )

    def note(self, name: str, text: str, level: str) -> None:
        from rich.text import Text

        self.bars.console.print(
            Text(f"{level}: {name}: {text}", style="bold yellow" if level == "warning" else "")
        )

    def finished(self, name: str, key: str, cached: bool, seconds: float) -> None:
        task = self.tasks.get(name)
        if task is not None:
            total = self.bars.tasks[self.bars.task_ids.index(task)].total or 1
            self.bars.update(
                task, completed=total, total=total, left="from the store" if cached else duration(seconds)
            )


class Lines(Listener):
    """Plain lines: the start of a stage, about each tenth of it or after a pause, and its end."""

    def __init__(self, console: Any, clock: Callable[[], float]):
        self.console, self.clock = console, clock
        self.value = ""
        self.reported, self.part, self.quiet = 0.0, 0, QUIET

    def start(self) -> None:
        """Nothing to prepare."""

    def stop(self) -> None:
        """Nothing to restore."""

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)
        self.reported = self.clock()

    def started(self, name: str, key: str, cached: bool) -> None:
        self.value, self.part, self.quiet = "", 0, QUIET
        if not cached:
            self.say(f"{name}: started")

    def record(self, name: str, record: dict) -> None:
        found = _on_validation(record)
        if found and found[1] != _NOTHING:
            self.value = f", validation {found[0]} {found[1]}"

    def progress(self, name: str, done: int, total: int, text: str) -> None:
        silence = self.clock() - self.reported
        part = _PARTS * done // total if total else 0
        due = part > self.part and silence >= SHORTEST
        if done >= total or not (due or silence >= self.quiet):
            return
        self.part, self.quiet = (part, QUIET) if due else (self.part, min(2 * self.quiet, QUIETEST))
        self.say(f"{name}: {done}/{total}{self.value}{f', {text}' if text else ''}")

    def note(self, name: str, text: str, level: str) -> None:
        self.say(f"{level}: {name}: {text}")

    def finished(self, name: str, key: str, cached: bool, seconds: float) -> None:
        self.say(f"{name}: {'from the store' if cached else f'done in {duration(seconds)}'}{self.value}")


def _on_validation(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """The metric that a record has of validation: its title and the value; None where it has none."""
    if (metric := live_metric(record)) is None:
        return None
    value = record[curve_of(metric)]
    return metric.title, metric.text(value) if value is not None and math.isfinite(value) else _NOTHING


def duration(seconds: float) -> str:
    """0.4 -> "0.4 s", 75 -> "1 min 15 s", 5400 -> "1 h 30 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
