"""Progress on stderr: bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from kdx.core.roles import predicts
from kdx.report.metric import curve_of, live_metric
from kdx.report.run.listeners import Listener, Many

_NOTHING = "-"
_PARTS = 10  # a plain line each tenth of a stage ...
QUIET = 10.0  # ... and after so many seconds of silence, a pause that doubles up to
QUIETEST = 300.0  # this one, so that a night's log stays short
SHORTEST = 1.0  # lines are never closer than this, start and end apart
_BRIEF = 1.0  # a network that is asked for what is measured is told of where that takes longer
_WIDE = 96  # columns of a terminal from which on bars tell the steps, and not their share alone
_ROOM = 21  # columns for the times where the terminal is narrower


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


@dataclass
class Pace:
    """How far a stage is. begun: when, by the clock. first: the first step that it knows of and when, so
    that a resumed stage is not thought to have raced through its earlier steps. loss: of the last logged
    step. value: title and value of the metric on validation. part: tenths that were spoken of.
    """

    begun: float
    first: tuple[float, int] | None = None
    loss: str = ""
    value: tuple[str, str] | None = None
    part: int = 0

    def heard(self, record: Mapping[str, Any]) -> None:
        self.value = _on_validation(record) or self.value
        loss = record.get("train/loss")
        if isinstance(loss, int | float) and math.isfinite(loss):
            self.loss = f"{loss:.3g}"

    def reached(self, now: float, done: int) -> None:
        self.first = self.first or (now, done)

    def times(self, now: float, done: int, total: int) -> tuple[str, str]:
        """(steps a second of a training, time that went by and time that is left); "" where they are not
        known yet."""
        since, first = self.first or (now, done)
        if done <= first or now <= since:
            return "", ""
        rate = (done - first) / (now - since)
        left = f"{duration(now - self.begun)}, {duration((total - done) / rate)} left"
        return f"{rate:.3g}/s" if self.loss else "", left


class Bars(Listener):
    """One line a stage: name, bar, step/steps or their share, what it has on validation so far, loss, steps a
    second, time that went by and time left. Notes appear above the bars.
    """

    def __init__(self, console: Any, clock: Callable[[], float]):
        from rich import progress as rich

        self.clock, self.wide = clock, console.width >= _WIDE
        self.bars = rich.Progress(
            rich.TextColumn("{task.description:<16}"),
            rich.BarColumn(bar_width=max(8, min(24, console.width - 86)), finished_style="cyan"),
            rich.TextColumn("{task.fields[count]:>11}" if self.wide else "{task.fields[count]:>4}"),
            rich.TextColumn("{task.fields[value]:>9}"),
            rich.TextColumn("{task.fields[loss]:>9}"),
            rich.TextColumn("{task.fields[rate]:>6}"),
            rich.TextColumn("{task.fields[left]}"),
            console=console,
            refresh_per_second=4,  # more would take time from a training loop that shares the core
            # Only what would land on this terminal is drawn above the bars: a piped stdout must stay what it
            # is.
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        )
        self.tasks: dict[str, Any] = {}
        self.paces: dict[str, Pace] = {}
        self.ended: set[tuple[str, str]] = set()

    def start(self) -> None:
        self.bars.start()

    def stop(self) -> None:
        self.bars.stop()

    def started(self, name: str, key: str, cached: bool) -> None:
        if cached and (name, key) in self.ended:  # asked for once more: nothing new
            return
        self.paces[name] = Pace(self.clock())
        left = "from the store" if cached else ""
        self.tasks[name] = self.bars.add_task(
            name, total=None, count="", value="", loss="", rate="", left=left, visible=not predicts(name)
        )

    def record(self, name: str, record: dict) -> None:
        if name not in self.tasks:
            return
        pace = self.paces[name]
        pace.heard(record)
        self.bars.update(
            self.tasks[name],
            value=f"val {pace.value[1]}" if pace.value else "",
            loss=f"loss {pace.loss}" if pace.loss else "",
        )

    def progress(self, name: str, done: int, total: int, text: str) -> None:
        if name not in self.tasks:
            return
        now, pace = self.clock(), self.paces[name]
        pace.reached(now, done)
        rate, times = pace.times(now, done, total)
        narrow = times if len(times) <= _ROOM else times.rpartition(", ")[2]
        left = ", ".join(filter(None, (text, times))) if self.wide else text or narrow
        self.bars.update(
            self.tasks[name],
            completed=done,
            total=total,
            count=f"{done}/{total}" if self.wide else f"{done / max(total, 1):.0%}",
            rate=rate,
            left=left,
            visible=not _brief(name, now - pace.begun),
        )

    def note(self, name: str, text: str, level: str) -> None:
        from rich.text import Text

        self.bars.console.print(
            Text(f"{level}: {name}: {text}", style="bold yellow" if level == "warning" else "")
        )

    def finished(self, name: str, key: str, cached: bool, seconds: float) -> None:
        task = self.tasks.get(name)
        if task is not None and not (cached and (name, key) in self.ended):
            self.ended.add((name, key))
            total = self.bars.tasks[self.bars.task_ids.index(task)].total or 1
            self.bars.update(
                task,
                completed=total,
                total=total,
                left="from the store" if cached else duration(seconds),
                visible=not _brief(name, 0.0 if cached else seconds),
            )


class Lines(Listener):
    """Plain lines: the start of a stage, about each tenth of it or after a pause, and its end."""

    def __init__(self, console: Any, clock: Callable[[], float]):
        self.console, self.clock = console, clock
        self.paces: dict[str, Pace] = {}
        self.ended: set[tuple[str, str]] = set()
        self.reported, self.quiet = 0.0, QUIET

    def start(self) -> None:
        """Nothing to prepare."""

    def stop(self) -> None:
        """Nothing to restore."""

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)
        self.reported = self.clock()

    def started(self, name: str, key: str, cached: bool) -> None:
        self.paces[name], self.quiet = Pace(self.clock()), QUIET
        if not cached and not predicts(name):
            self.say(f"{name}: started")

    def record(self, name: str, record: dict) -> None:
        if name in self.paces:
            self.paces[name].heard(record)

    def progress(self, name: str, done: int, total: int, text: str) -> None:
        now = self.clock()
        pace = self.paces.setdefault(name, Pace(now))
        pace.reached(now, done)
        silence = now - self.reported
        part = _PARTS * done // total if total else 0
        due = part > pace.part and silence >= SHORTEST
        if done >= total or not (due or silence >= self.quiet):
            return
        if due:
            pace.part, self.quiet = part, QUIET
        else:
            self.quiet = min(2 * self.quiet, QUIETEST)
        rate, left = pace.times(now, done, total)
        loss = f"loss {pace.loss}" if pace.loss else ""
        words = [f"{done}/{total}", text, loss, _said(pace), rate.replace("/", " steps/"), left]
        self.say(f"{name}: {', '.join(filter(None, words))}")

    def note(self, name: str, text: str, level: str) -> None:
        self.say(f"{level}: {name}: {text}")

    def finished(self, name: str, key: str, cached: bool, seconds: float) -> None:
        if cached and (name, key) in self.ended:  # asked for once more: nothing new
            return
        self.ended.add((name, key))
        if _brief(name, 0.0 if cached else seconds):
            return
        words = ["from the store" if cached else f"done in {duration(seconds)}", _said(self.paces.get(name))]
        self.say(f"{name}: {', '.join(filter(None, words))}")


def _brief(name: str, seconds: float) -> bool:
    """Whether a stage only does beforehand what `evaluate` would do, and that in no time."""
    return predicts(name) and seconds < _BRIEF


def _said(pace: Pace | None) -> str:
    found = pace.value if pace else None
    return f"validation {found[0]} {found[1]}" if found and found[1] != _NOTHING else ""


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
