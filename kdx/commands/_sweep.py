"""kdx train -m: the folder of a sweep found or made, its runs handed to Hydra, and what came of them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdx.commands._check import Job, varying
from kdx.commands._publish_at_end import publish_at_end
from kdx.commands._sweep_end import conclude
from kdx.commands._tell import Alone, Elsewhere, InSweep, Teller
from kdx.commands._watch import SweepWatch
from kdx.config import compose, grid
from kdx.config.quoting import quoted
from kdx.core import signals
from kdx.report.compare.caveats import some
from kdx.report.run.verdict import metric
from kdx.runs import sweep
from kdx.runs.sweep import Sweep
from kdx.tasks.shown import counting_metric

Launch = Callable[[Sequence[str]], None]
watching: SweepWatch | None = None
"""Of the sweep that this process was called for."""


def run_sweep(
    command: Sequence[str], flags: Sequence[str], words: Sequence[str], jobs: Sequence[Job], launch: Launch
) -> int:
    """Exit code 0: every run is finished; 1: some are not; those of kdx.core.signals where it was
    interrupted.

    command: as it was typed. jobs: the runs, checked; of a sweeper that searches the ends of its ranges, as
    examples.
    """
    swept = [key for word in words if (key := grid.swept_key(word))]
    known = (
        {compose.job_name(number, job.words, len(jobs), swept): job for number, job in enumerate(jobs)}
        if grid.all_combinations(words)
        else None
    )
    path, named = grid.sweep_folder(words)
    place = sweep.begin_sweep(
        path,
        command,
        None if known is None else {name: grid.own_words(job.words) for name, job in known.items()},
        {name: job.order for name, job in (known or {}).items()},
        found={name: job.key for name, job in (known or {}).items() if job.key},
        named=named,
    )
    further = [
        f"hydra.sweep.dir={quoted(str(place.path.absolute()))}",
        f"hydra.sweep.subdir={compose.subdir(len(known) if known else None, swept)}",
    ]
    global watching
    try:
        announce(place)
        if place.jobs is None or len(place.done) < len(place.jobs):
            with SweepWatch(place.path, _labels(place, command)) as watching:
                hand_over(place, lambda: launch([*flags, *grid.for_hydra(words), *further]))
    except KeyboardInterrupt as error:
        with signals.held():
            _interrupted(place, sorted({str(job.order.store) for job in jobs}), command)
        return signals.code_of(error)
    except Exception as error:  # a launcher's own: a queue that cannot be reached
        signals.raise_if_stopped()
        print(
            f"the sweep was stopped by {type(error).__name__}: "
            f"{(str(error).splitlines() or ['no reason given'])[0]}",
            file=sys.stderr,
        )
        conclude(place)
        return 1
    finally:
        watching = None
        place.lock.release()
    code = conclude(place)
    if jobs:
        publish_at_end(place.path, jobs[0].order)
    return code


def hand_over(place: Sweep, launch: Callable[[], None]) -> None:
    """Has an engine do the runs.

    A worker that is killed, for want of memory say, takes many an engine with it. Then the runs that it had
    not come to are handed over again, and at the end each one that was at work by itself, so that one that is
    killed every time stops no other. Raises what ended an engine in which no run had begun, and any end of a
    search, whose runs nobody knows beforehand.
    """
    before, cut = place.runs(), []
    try:
        while True:
            try:
                launch()
                break
            except (Exception, KeyboardInterrupt) as error:
                if signals.came():
                    raise  # this process was stopped; else a worker, by whoever watches over memory, say
                began = {
                    name: run
                    for name, run in place.runs().items()
                    if run and run.get("started") != (before.get(name) or {}).get("started")
                }
                fresh = [
                    name
                    for name, run in began.items()
                    if name not in cut and run.get("status") not in ("finished", "failed")
                ]
                if place.jobs is None or not fresh or isinstance(error, BrokenPipeError):
                    raise
                cut += fresh
                what = (
                    f"{type(error).__name__}: a worker was killed"
                    if isinstance(error, Exception)
                    else "a worker was stopped"
                )
                print(
                    f"{what}; what was at work follows at the end, one by one: {some(fresh)}",
                    file=sys.stderr,
                    flush=True,
                )
                place.pass_over(began)
        for name in cut:
            place.pass_over(other for other in place.jobs if other != name)
            with contextlib.suppress(Exception, KeyboardInterrupt):  # killed again: the table says so
                launch()
            signals.raise_if_stopped()
    finally:
        place.pass_over(())


def quiet_search() -> None:
    """Optuna tells of every study and every failed trial in lines of its own: the runs' lines and the end say
    it.
    """
    if importlib.util.find_spec("optuna"):
        logging = importlib.import_module("optuna.logging")
        logging.set_verbosity(logging.ERROR)


def announce(place: Sweep) -> None:
    if place.jobs is None:
        quiet_search()
        print(f"a search in {os.path.relpath(place.path)}", flush=True)
        return
    whole, done = len(place.jobs), len(place.done)
    how = (
        "all are done"
        if done == whole
        else f"{done} of them are done, {whole - done} to do"
        if done
        else "none is done yet"
    )
    print(f"{whole} {'run' if whole == 1 else 'runs'} in {os.path.relpath(place.path)}: {how}", flush=True)


def _interrupted(place: Sweep, stores: Sequence[str], command: Sequence[str]) -> None:
    runs = place.runs()
    done = sum(map(sweep.finished, runs.values()))
    print(
        f"interrupted; {done} of {len(runs)} runs are done, what else is finished is in "
        f"{', '.join(stores)}. Go on with: {shlex.join(command)}",
        file=sys.stderr,
    )


def teller(path: Path, words: Sequence[str]) -> Teller:
    """How the run in `path` is reported. Also called in a process that a launcher has made."""
    if not compose.in_sweep():
        return Alone()
    if watching is None or watching.process != os.getpid():
        return Elsewhere()
    watching.reported.add(path.name)
    return InSweep(watching.label(path.name, words))


def _labels(place: Sweep, command: Sequence[str]) -> Callable[[str, Sequence[str]], str]:
    """What tells which run of a sweep it is, for its line, from its folder and its words."""
    if place.jobs is None:
        return lambda name, words: " ".join(
            ["trial", name.partition("_")[0], *(w for w in words if w not in command)]
        )
    vary = varying(list(place.jobs.values()))
    called = {
        name: f"{number}/{len(vary)} {' '.join(words)}".rstrip()
        for number, (name, words) in enumerate(zip(place.jobs, vary, strict=True), 1)
    }
    return lambda name, words: called.get(name, name)


def validation_error(run: Mapping[str, Any] | None) -> float | None:
    """Of the distilled student, by the weights that the run shows, in the metric that counts (see
    `Metric.error`); None where there is none: a trial that failed.

    What a search makes small, whatever the metric's direction: no figure of the test split.
    """
    results = (run or {}).get("results") or {}
    counts = counting_metric(results)
    found = metric(results, "student", results.get("headline") or "last", "validation", counts.name)
    return None if found is None else counts.error(found)
