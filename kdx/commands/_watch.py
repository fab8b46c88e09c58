"""The lines of runs that other processes work at, taken from their run.json as they end: so every engine
tells the same, wherever its output goes.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdx.core.folded import say
from kdx.core.roles import known_roles
from kdx.report.run.document import seconds
from kdx.report.run.verdict import metric
from kdx.runs import sweep
from kdx.tasks.shown import counting_metric

EVERY = 0.5
"""Seconds between two looks."""


class SweepWatch:
    """Tells of every run of a sweep's folder that ends while this is open, once. `reported` has the names of
    those that nobody need tell.

    label: of a run, from its name and its words.
    """

    def __init__(self, path: Path, label: Callable[[str, Sequence[str]], str]):
        self.path, self.label = path, label
        self.reported: set[str] = set()
        self.process = os.getpid()
        self._seen: dict[str, tuple[int, int]] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> SweepWatch:
        self._changed()
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._closing.set()
        self._thread.join()
        self.look()

    def _watch(self) -> None:
        while not self._closing.wait(EVERY):
            self.look()

    def look(self) -> None:
        for name in self._changed():
            document = sweep.run_in(self.path / name) or {}
            if document.get("status") in ("finished", "failed") and name not in self.reported:
                self.reported.add(name)
                label = self.label(name, (document.get("command") or [])[2:])
                if document["status"] == "finished":
                    say(result_line(label, document), flush=True)
                else:
                    say(failure(label, str(document.get("error"))), sys.stderr, flush=True)

    def _changed(self) -> list[str]:
        """Names of the runs whose run.json is another than at the last look, the oldest first."""
        now = {}
        for file in self.path.glob("*/run.json"):
            try:
                about = file.stat()
            except OSError:
                continue  # replaced at this moment: the next look has it
            now[file.parent.name] = (about.st_mtime_ns, about.st_ino)
        changed = sorted((stamp, name) for name, stamp in now.items() if self._seen.get(name) != stamp)
        self._seen = now
        return [name for _, name in changed]


def result_line(label: str, document: Mapping[str, Any]) -> str:
    """What came of a run, from its run.json."""
    from kdx.report.run.progress import duration

    results = document.get("results") or {}
    counts, known = counting_metric(results), known_roles(results)
    parts = [
        f"{known[role].short} {counts.text(value)}"
        for role in ("teacher", "baseline", "student")
        if (value := metric(results, role, results.get("headline") or "last", "test", counts.name))
        is not None
    ]
    parts += [f"gain {counts.difference(results['gain'])}"] if results.get("gain") is not None else []
    warnings = document.get("warnings") or []
    parts += [f"{len(warnings)} warning{'s' * (len(warnings) > 1)} in report.md"] if warnings else []
    took = seconds(document)
    return f"{label}: {', '.join(parts) or 'done'}" + ("" if took is None else f" ({duration(took)})")


def failure(label: str, reason: str) -> str:
    return f"{label}: FAILED: {(reason.splitlines() or ['no reason given'])[0]}"
