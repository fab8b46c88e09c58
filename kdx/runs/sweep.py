"""The folder of a sweep: which runs belong to it, which are done, which failed, and going on with one that
was stopped. No torch.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdx.config.wire import Order
from kdx.core import snapshot
from kdx.core.errors import UserError
from kdx.core.files import own_file, read_json, write_atomically
from kdx.pipeline.stages import EVALUATE
from kdx.report.run import document
from kdx.runs.run import stored

SWEEP_FILE, LATER, _LOCK = "sweep.json", "later.json", "sweep.lock"
"""What the sweep is; while one is at work, the runs that an engine is to pass over; and what the command at
work holds.
"""
DAMAGED = "damaged"
_STATE = ("status", "error", "traceback", "host", "started", "ended", "seconds", "stages", "command")


@dataclass(frozen=True)
class Sweep:
    """A folder that no other process writes to while `lock` is held. jobs: folder -> words, in order; None: a
    sweeper makes them up as it goes. done: the jobs that were finished when it was opened."""

    path: Path
    jobs: Mapping[str, Sequence[str]] | None
    lock: Any
    resumed: bool
    done: frozenset[str]

    def runs(self) -> dict[str, dict[str, Any] | None]:
        """folder -> what its run.json says of the state of the run: see `brief`."""
        names = (
            self.jobs
            if self.jobs is not None
            else sorted(p.parent.name for p in self.path.glob("*/run.json"))
        )
        return {name: brief(self.path / name) for name in names}

    def pass_over(self, names: Iterable[str]) -> None:
        """Has every worker leave these runs alone from now on; none: they are free again."""
        listed = sorted(names)
        if listed:
            write_atomically(self.path / LATER, json.dumps({"runs": listed}))
        else:
            (self.path / LATER).unlink(missing_ok=True)


def begin_sweep(
    path: Path,
    command: Sequence[str],
    jobs: Mapping[str, Sequence[str]] | None,
    orders: Mapping[str, Order],
    *,
    named: bool,
    found: Mapping[str, str] | None = None,
) -> Sweep:
    """The folder to work in: `path`, or the newest one beside it where the same sweep was stopped or has
    nothing left to do.

    A folder is gone on with only if its jobs have the same names and words and what it has finished would
    come out the same today: else its figures would be replaced. named: `path` was asked for by name; then
    another sweep in it is a UserError. found: of the jobs of which the store was just now found to have all,
    the keys of their evaluations.
    """
    if named:
        earlier = read_sweep(path / SWEEP_FILE)
        if earlier and (jobs is None or earlier.get("jobs") != _listed(jobs)):
            given = earlier.get("command") if isinstance(earlier.get("command"), list) else []
            what = shlex.join(map(str, given))[:400] or "of unknown words"
            raise UserError(
                f"'{path}' holds another sweep ({what}): choose another folder with "
                "hydra.sweep.dir=PATH, or leave that out"
            )
        done = _done(path, orders, found or {}) if earlier else frozenset()
        return _open(path, command, jobs, resumed=earlier is not None, done=done) or _busy(path)
    for other in sorted(path.parent.glob(f"*/{SWEEP_FILE}"), reverse=True) if jobs is not None else []:
        if (read_sweep(other) or {}).get("jobs") == _listed(jobs):
            done = _done(other.parent, orders, found or {})
            if all(name in done or not finished(brief(other.parent / name)) for name in orders):
                opened = _open(other.parent, command, jobs, resumed=True, done=done)
                if opened:
                    return opened
    return _open(path, command, jobs, resumed=False, done=frozenset()) or _busy(path)


def _done(path: Path, orders: Mapping[str, Order], found: Mapping[str, str]) -> frozenset[str]:
    """found: see `begin_sweep`; the others are looked up."""
    return frozenset(
        name
        for name, order in orders.items()
        if _holds(path / name, found[name] if name in found else key_today(order))
    )


def _open(
    path: Path,
    command: Sequence[str],
    jobs: Mapping[str, Sequence[str]] | None,
    *,
    resumed: bool,
    done: frozenset[str],
) -> Sweep | None:
    """None where another process is at work in it."""
    import filelock

    try:
        path.mkdir(parents=True, exist_ok=True)
        for name in (SWEEP_FILE, LATER, _LOCK, "multirun.yaml"):  # the last is Hydra's
            own_file(path / name, "the sweep")
        lock = filelock.FileLock(path / _LOCK)
        lock.acquire(timeout=0)
        (path / LATER).unlink(missing_ok=True)  # of a command that was killed
        if not resumed:
            write_atomically(
                path / SWEEP_FILE,
                json.dumps(
                    {"command": list(command), "jobs": _listed(jobs), "started": time.time()}, indent=1
                )
                + "\n",
            )
    except filelock.Timeout:
        return None
    except OSError as error:
        raise UserError(
            f"the sweep's folder cannot be written: {error.strerror or error} ('{error.filename}'); set "
            "hydra.sweep.dir=PATH"
        ) from error
    return Sweep(path, jobs, lock, resumed, done)


def _busy(path: Path) -> Sweep:
    raise UserError(
        f"another process is at work on the sweep in '{path}': wait for it, or choose another folder with "
        "hydra.sweep.dir=PATH"
    )


def passed_over(folder: Path) -> bool:
    """Whether the sweep that this run belongs to has asked that it be left alone: see `Sweep.pass_over`."""
    runs = (read_sweep(folder.parent / LATER) or {}).get("runs")
    return isinstance(runs, list) and folder.name in runs


def _listed(jobs: Mapping[str, Sequence[str]] | None) -> list[dict[str, Any]] | None:
    return None if jobs is None else [{"folder": name, "words": list(words)} for name, words in jobs.items()]


def read_sweep(file: Path) -> dict[str, Any] | None:
    """What the sweep itself has written; None where that is not there, or is nothing of its kind."""
    try:
        found = read_json(file)
    except UserError:
        return None
    return found if isinstance(found, dict) else None


def run_in(folder: Path) -> dict[str, Any] | None:
    """The run.json of a run's folder; None where there is none. Of one that is not as kdx writes it
    {"status": "damaged", "error": why}: that run is to do.
    """
    file = folder / document.RUN_FILE
    try:
        return document.read_document(file) if os.path.lexists(file) else None
    except UserError as error:
        return {"status": DAMAGED, "error": str(error)}


def brief(folder: Path) -> dict[str, Any] | None:
    """Of `run_in` what tells the state of a run. A command reads each file once while it is the same."""
    file = folder / document.RUN_FILE

    def look() -> dict[str, Any] | None:
        run = run_in(folder)
        return run and {key: run[key] for key in _STATE if key in run}

    return snapshot.while_same(("brief", os.path.abspath(file)), str(file), look, bool)


def finished(run: Mapping[str, Any] | None) -> bool:
    return bool(run) and run.get("status") == "finished"


def is_done(folder: Path, order: Order) -> bool:
    """Whether the folder holds the finished run that `order` asks for, as it would come out today, and the
    store still has all of it.
    """
    return _holds(folder, key_today(order))


def _holds(folder: Path, key: str | None) -> bool:
    """Whether it holds a finished run whose evaluation has this key."""
    run = brief(folder)
    return finished(run) and key_in(run) == key


def key_in(run: Mapping[str, Any]) -> str | None:
    """Of the run's evaluation, which all that it has made goes into."""
    keys = [stage.get("key") for stage in run.get("stages") or () if stage.get("name") == EVALUATE.name]
    return keys[-1] if keys else None


def key_today(order: Order) -> str | None:
    """The same of the run that `order` asks for; None where the store does not have all of it."""
    found = stored(order)
    return found and found.key
