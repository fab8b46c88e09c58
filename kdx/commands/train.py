"""Run teacher-pretrain, pseudo-label and student-train, then show what the teacher was worth."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra

from kdx import compose
from kdx.faults import Fault, Faults
from kdx.locate import conf_dir
from kdx.run import ROLES, all_stored, environment, load_examples, perform, protocol, trace
from kdx.store import Listener
from kdx.wiring import Order, examine, wire
from kdx.words import apart, use_own

ASKING = ("--help", "--hydra-help", "--version", "--cfg", "--info", "--shell-completion")
log = logging.getLogger("kdx")
codes: list[int] = []


def main(argv: Sequence[str]) -> int:
    """Exit code 0: done; 1: a run failed; 2: bad input, and no run folder is left behind; 130: interrupted."""
    flags, words = apart(argv)
    use_own(flags)
    words = compose.spread(compose.plus_less(compose.quote_paths(words)))
    compose.register_names()
    if not any(flag.split("=")[0] in ASKING for flag in flags):
        check(words, "--multirun" in flags)
    compose.quiet_hydra([*flags, *words])
    quiet_writers()
    codes.clear()
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(task)()
    except (hydra.errors.HydraException, compose.OmegaConfBaseException) as error:
        raise Fault(compose.first_line(error)) from error
    except OSError as error:  # a run's own failures are recorded by `run`; this one came while its folder was made
        raise Fault(f"the run folder cannot be written: {error.strerror or error} ('{error.filename}'); set hydra.run.dir=PATH") from error
    except KeyboardInterrupt:
        if 130 not in codes:
            raise
    return max(codes, default=0)


def quiet_writers() -> None:
    """A full disk is told once, in plain words, by the main thread: not also by loggers and by TensorBoard's thread, with tracebacks."""
    logging.raiseExceptions = False
    threading.excepthook = lambda failure: None if issubclass(failure.exc_type, OSError) else threading.__excepthook__(failure)


def check(words: Sequence[str], multirun: bool) -> None:
    """Every run of the command, before the first begins. Raises Faults with all that is wrong."""
    combinations, faults = compose.combinations(words, multirun)
    unreadable = bool(faults)
    faults += compose.misplaced(words, multirun)
    looked: set[str] = set()
    for combination in combinations:
        config, found, good_words = compose.examine(combination)
        faults += found
        if config is None:
            continue
        order, wrong = examine(config)
        faults += wrong
        alike = json.dumps({**config, "seed": 0}, sort_keys=True)
        slips = unreadable or bool(found)
        if alike in looked or (not slips and not wrong and all_stored(order)):
            continue
        looked.add(alike)
        # A slip of the pen alone is told at once; with more on the line it is worth importing torch to tell all that is wrong.
        if not slips or good_words:
            from kdx.preflight import inspect

            faults += inspect(order, data=not slips)
    if faults:
        raise Faults(faults)


def task(config: Any) -> None:
    """One run, from a configuration that has been checked. Records its failure and never raises, so that a sweep goes on: but not if interrupted."""
    codes.append(run(wire(compose.plain(config)), compose.output_dir(), compose.task_words()))
    if codes[-1] == 130:
        raise KeyboardInterrupt


def run(order: Order, path: Path, words: Sequence[str], command: str = "train") -> int:
    from kdx.report.folder import RunFolder
    from kdx.report.listener import Many
    from kdx.report.progress import Progress

    try:
        folder = RunFolder(path, dict(order.config), protocol(order, None), environment(order), ["kdx", command, *words])
        folder.run["store"] = str(order.store.resolve())
        folder.save()
    except Fault as fault:
        print(fault, file=sys.stderr)
        return 2
    try:
        with Progress() as progress:
            found, artifacts = perform(order, Many(progress, folder, Log()))
        finish(order, folder, found, artifacts)
    except KeyboardInterrupt:
        folder.interrupt()
        print(f"interrupted; what is finished is in {order.store}. Go on with: {shlex.join(folder.run['command'])}", file=sys.stderr)
        return 130
    except (BrokenPipeError, SystemExit) as error:  # nobody reads the table any more (kdx train | head), which rich turns into an exit
        if folder.run["status"] != "finished":
            folder.fail(error)
        return 141
    except Exception as error:
        if isinstance(error, Fault) and not folder.run["stages"]:  # the data told only when read that they are damaged: no work was done
            folder.discard()
            print(error, file=sys.stderr)
            return 2
        folder.fail(error)
        log.exception("the run failed")
        told = str(error) if isinstance(error, Fault) else f"{type(error).__name__}: {error}"
        print(f"{told}\nthe run failed; its traceback is in {os.path.relpath(path)}/run.json", file=sys.stderr)
        return 1
    return 0


def finish(order: Order, folder: Any, found: Any, artifacts: Any) -> None:
    from kdx.report.table import print_table

    folder.run["protocol"] = protocol(order, artifacts["prepare"])
    for name, artifact in artifacts.items():
        folder.link(name, artifact.path)
    results = found.json("results.json")
    trace(folder.run, results, artifacts)
    for role in ROLES.keys() & results.keys():
        results[role]["model"] = order.config["choices"]["teacher" if role == "teacher" else "student"]
    if results["rounds"]:
        results |= {"round_chosen": artifacts["student-train"].key, "round_by": "last" if order.plan.budget else "validation"}
    audit = artifacts["audit"].json("audit.json") if "audit" in artifacts else None
    told = folder.finish(results, load_examples(found), order.headline, audit)
    print_table(told, order.headline, folder.warnings, audit=audit)
    print(f"\nrun folder: {os.path.relpath(folder.path)}   (report.md, run.json; curves: tensorboard --logdir {os.path.relpath(folder.path)})")


class Log(Listener):
    """The log file: what each stage did and said."""

    def started(self, name: str, key: str, cached: bool) -> None:
        log.info("%s %s %s", name, "is in the store:" if cached else "begins:", key)

    def note(self, name: str, text: str, level: str) -> None:
        log.log(logging.WARNING if level == "warning" else logging.INFO, "%s: %s", name, text)

    def finished(self, name: str, key: str, cached: bool, seconds: float) -> None:
        if not cached:
            log.info("%s is done after %.1f s", name, seconds)
