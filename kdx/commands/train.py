"""Run teacher-pretrain, pseudo-label and student-train, then show what the teacher was worth."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra

from kdx import compose
from kdx.faults import Fault, Faults
from kdx.locate import conf_dir
from kdx.run import ROLES, all_stored, environment, load_examples, perform, protocol
from kdx.store import Listener
from kdx.wiring import Order, wire

ASKING = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc")
MULTIRUN = ("--multirun", "-m")
log = logging.getLogger("kdx")
codes: list[int] = []


def main(argv: Sequence[str]) -> int:
    """Exit code 0: done; 1: a run failed; 2: bad input, and no run folder is left behind; 130: interrupted."""
    words = compose.quote_paths(compose.flags_first(argv))
    flags = [w for w in words if w.startswith("-")]
    compose.register_names()
    if not any(flag.split("=")[0] in ASKING for flag in flags):
        check([w for w in words if w not in flags], any(f in MULTIRUN for f in flags))
    compose.quiet_hydra(words)
    codes.clear()
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(task)()
    except (hydra.errors.HydraException, compose.OmegaConfBaseException) as error:
        raise Fault(compose.first_line(error)) from error
    return max(codes, default=0)


def check(words: Sequence[str], multirun: bool) -> None:
    """Every run of the command, before the first begins. Raises Faults with all that is wrong."""
    faults: list[str] = []
    looked: set[str] = set()
    for combination in compose.jobs(words, multirun):
        try:
            order = wire(compose.check_words(combination))
            alike = json.dumps({**order.config, "seed": 0}, sort_keys=True)
            if alike not in looked and not all_stored(order):
                from kdx.preflight import preflight

                preflight(order)
            looked.add(alike)
        except Faults as error:
            faults += error.messages
        except Fault as error:
            faults.append(str(error))
    if faults:
        raise Faults(faults)


def task(config: Any) -> None:
    """One run, from a configuration that has been checked. Records its failure and never raises, so that a sweep goes on."""
    codes.append(run(wire(compose.plain(config)), compose.output_dir(), compose.task_words()))


def run(order: Order, path: Path, words: Sequence[str]) -> int:
    from kdx.report.folder import RunFolder
    from kdx.report.listener import Many
    from kdx.report.progress import Progress

    folder = RunFolder(path, dict(order.config), protocol(order, None), environment(order), ["kdx", "train", *words])
    folder.run["store"] = str(order.store.resolve())
    folder.save()
    try:
        with Progress() as progress:
            found, artifacts = perform(order, Many(progress, folder, Log()))
        finish(order, folder, found, artifacts)
    except KeyboardInterrupt:
        folder.interrupt()
        print(f"interrupted; what is finished is in {order.store}. Go on with: kdx train {shlex.join(words)}", file=sys.stderr)
        return 130
    except Exception as error:
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
    for role in ROLES.keys() & results.keys():
        results[role]["model"] = order.config["choices"]["teacher" if role == "teacher" else "student"]
    told = folder.finish(results, load_examples(found), order.headline)
    print_table(told, order.headline, folder.warnings)
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
