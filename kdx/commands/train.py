"""Run teacher-pretrain, pseudo-label and student-train, then show what the teacher was worth; -m runs every combination."""  # noqa: E501

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra

from kdx.commands import _sweep
from kdx.commands._check import check_runs
from kdx.commands._folder import begin_folder
from kdx.commands._publish_at_end import publish_at_end
from kdx.commands._tell import Alone, Teller
from kdx.commands._typed import check_shown, read_words
from kdx.config import compose, filed
from kdx.config import grid as combine
from kdx.config.untuned import could_be_taught
from kdx.config.wire import Order, wire
from kdx.core import output, shortage, signals, snapshot
from kdx.core.errors import UserError
from kdx.core.launch import launched
from kdx.core.paths import conf_dir
from kdx.core.roles import roles_of
from kdx.core.shortage import Shortage
from kdx.pipeline.controls.control import own_controls
from kdx.pipeline.recipes.experiment import moves_as_student, name_made
from kdx.pipeline.recipes.recipe import build_recipe, roles_in_words
from kdx.report.run import document
from kdx.report.run.bill import bill_of
from kdx.report.run.prequential import with_chunk_metric
from kdx.report.run.sessions import with_session_metrics
from kdx.runs import releases, sweep
from kdx.runs.row_predictions import write_predictions
from kdx.runs.run import load_examples, perform, protocol
from kdx.runs.traces import trace
from kdx.runs.unread import write_unread
from kdx.store.work import Listener

ASKING = ("--help", "--hydra-help", "--version", "--cfg", "--info")
_log = logging.getLogger("kdx")
_UNREAD = 141
"""Exit code of a run whose reader is gone."""
codes: list[int] = []
_composing = contextlib.ExitStack()
"""What is so while Hydra composes, until the run is at work."""


def main(argv: Sequence[str]) -> int:
    """Exit code 0: done; 1: a run failed; 2: bad input, and no run folder is left behind; see
    kdx.core.signals.CODES.
    """
    flags, typed, words = read_words(argv)
    asking, multirun = any(flag.split("=")[0] in ASKING for flag in flags), "--multirun" in flags
    command = ["kdx", "train", *filed.as_flag(), *flags, *typed]
    if asking:
        check_shown(words)
    if launched() and any(w.partition("=")[0] in ("launcher", "hydra/launcher") for w in words):
        raise UserError(
            "launcher= hands runs to processes of its own, and those of torchrun train one run together: "
            "leave one of them out"
        )
    jobs = [] if asking else check_runs(words, multirun)
    quiet_writers()
    codes.clear()
    if multirun and not asking:
        return _sweep.run_sweep(command, flags, words, jobs, launch)
    tell_of_grid([] if asking else words)
    try:
        launch([*flags, *words])
    except (
        SystemExit
    ) as end:  # Hydra's own, after it has shown what was asked for, or said that it is not there
        return 2 if end.code else 0
    except KeyboardInterrupt:
        if not set(codes) & set(signals.CODES):
            raise  # not yet at work: the caller tells
    return max(codes, default=0)


def tell_of_grid(words: Sequence[str]) -> None:
    """A preset with a grid gives a single run without -m, which is no error and hardly what was meant."""
    for preset in (w.partition("=")[2] for w in words if w.startswith("experiment=")):
        if grid := combine.grid_of(preset):
            print(
                f"experiment={preset} is a grid of {', '.join(grid)}: this is one run of "
                "it, add -m to run them all",
                file=sys.stderr,
            )


def launch(words: Sequence[str]) -> None:
    """Hands the words to Hydra, which calls `task` for each run."""
    compose.quiet_hydra([*words, *filed.handed_on(words)])
    try:
        with _composing:
            if "--multirun" not in words:  # a sweep composes often, and leaves garbage
                _composing.enter_context(compose.quick_yaml())
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(task)()
    except (hydra.errors.HydraException, compose.OmegaConfBaseException) as error:
        raise UserError(compose.first_line(error)) from error
    except BrokenPipeError:
        raise
    except (
        OSError
    ) as error:  # a run's own failures are recorded by `run_order`; this one came while its folder was made
        raise UserError(
            f"the run folder cannot be written: {error.strerror or error} ('{error.filename}'); set "
            "hydra.run.dir=PATH"
        ) from error


def quiet_writers() -> None:
    """A full disk is reported once, in plain words, by the main thread: not also by loggers and by
    TensorBoard's thread, with tracebacks.
    """
    logging.raiseExceptions = False
    threading.excepthook = lambda failure: (
        None if issubclass(failure.exc_type, OSError) else threading.__excepthook__(failure)
    )


def task(config: Any) -> float | None:
    """One run, from a configuration that has been checked. Records its failure and never raises, so that a
    sweep goes on: but not if interrupted.

    Returns what a sweeper that searches makes small: see `_sweep.validation_error`.
    """
    _composing.close()
    os.chdir(compose.working_directory())
    path = compose.output_dir()
    if compose.in_sweep() and sweep.passed_over(path):
        return None
    values, words = filed.config_of(config)
    order = wire(values)
    signals.idle_between_runs()
    with signals.heeded(), snapshot.one_command():  # also in a process that a launcher has made
        codes.append(take_turn(order, path, words, _sweep.teller(path, words), swept=compose.in_sweep()))
        if codes[-1] == 0 and not compose.in_sweep():
            publish_at_end(path, order)
    if codes[-1] in signals.CODES:
        raise signals.Stopped(codes[-1] - 128)
    if codes[-1] == _UNREAD and compose.in_sweep():
        raise BrokenPipeError
    return _sweep.validation_error(sweep.run_in(path))


def take_turn(order: Order, path: Path, words: Sequence[str], teller: Teller, *, swept: bool = False) -> int:
    """One run, of a sweep unless it is done. A job of a cluster outlives the command that sent it: a second
    one for the same folder waits for it.
    """
    try:
        with document.at_work(path, timeout=-1 if swept else 1) as host:
            return 0 if swept and sweep.is_done(path, order) else run_order(order, path, words, teller, host)
    except UserError as error:
        output.report_error(str(error))
        return 2


def run_order(order: Order, path: Path, words: Sequence[str], teller: Teller, host: str | None) -> int:
    """host: see kdx.report.run.document.at_work. Raises UserError where the run folder cannot be made."""
    from kdx.report.run.listeners import Many

    folder = begin_folder(path, order, ["kdx", teller.command, *words], host)
    try:
        signals.raise_if_stopped()
        folder.save()
        with teller.progress() as progress:
            found, artifacts = perform(order, Many(progress, folder, Log()))
        outcome = finish(order, folder, found, artifacts)
        signals.raise_if_stopped()  # one that came while the report was written
        teller.done(folder, *outcome)
    except KeyboardInterrupt as error:
        return _interrupted(error, folder, order, words, teller)
    except (
        BrokenPipeError,
        SystemExit,
    ) as error:  # nobody reads the table any more (kdx train | head), which rich turns into an exit
        if folder.run["status"] != "finished":
            folder.fail(error)
        return _UNREAD
    except Exception as error:
        if signals.came():  # a library made another error of it
            return _interrupted(signals.last(), folder, order, words, teller)
        if (
            isinstance(error, UserError)
            and not isinstance(error, Shortage)
            and not folder.run["stages"]
            and isinstance(teller, Alone)
        ):
            folder.discard()  # the data reported only when read that they are damaged: no work was done
            raise
        # outside of any stage, in a picture of the report say
        if not isinstance(error, UserError) and (
            outcome := shortage.sentence(error, f"kdx {teller.command}")
        ):
            short = Shortage(outcome)
            short.__cause__, error = error, short
        folder.fail(error)
        _log.exception("the run failed")
        teller.failed(error, path, order)
        return 1
    return 0


def _interrupted(
    error: KeyboardInterrupt, folder: Any, order: Order, words: Sequence[str], teller: Teller
) -> int:
    with signals.held():  # a scheduler that signals twice
        folder.interrupt()
        teller.interrupted(order, words)
    return signals.code_of(error)


def finish(
    order: Order, folder: Any, found: Any, artifacts: Any
) -> tuple[dict[str, Any], str, dict[str, Any] | None]:
    """(results, headline, audit) of a run whose folder is now complete."""
    folder.run["protocol"] = protocol(order, artifacts["prepare"])
    for name, artifact in artifacts.items():
        folder.link(name, artifact.path)
    if "gate" in artifacts:
        folder.run["gate"] = artifacts["gate"].json("gate.json")
    if "proxy" in artifacts:
        folder.run["proxy"] = artifacts["proxy"].json("proxy.json")
    results = found.json("results.json")
    recipe = build_recipe(order.recipe)
    own = {**roles_in_words(recipe.roles), **own_controls(order.experiment.controls)}
    own = {role: words for role, words in own.items() if role in results}
    results |= {"roles": own} if own else {}
    for name in ("sessions", "prequential"):
        results |= {name: artifacts[name].json(f"{name}.json")} if name in artifacts else {}
    results = with_session_metrics(results) if "sessions" in results else results
    results = with_chunk_metric(results) if "prequential" in results else results
    results |= build_recipe(order.recipe).results(artifacts)
    for text in releases.sum_of_releases(order, folder.run["stages"], results):
        folder.warn(text)
    trace(folder.run, results, artifacts)
    student = order.config["choices"]["student"]
    for role in roles_of(results):
        of_teacher = role in ("teacher", "teacher_before", *recipe.as_teacher)
        results[role]["model"] = order.experiment.teacher_name if of_teacher else student
    if (made := artifacts.get("student-train")) and "student" in results:  # of peers it may be all of them
        results["student"]["model"] = name_made(made.json("model.json")["component"], student)
    if before := results.get("teacher_before"):
        before["could_teach"] = could_be_taught(
            order.experiment, order.config, recipe, bool(before.get("new_head"))
        )
    if (moving := order.experiment.moving) and "moved_teacher" in results:
        whose = student if moves_as_student(moving.spec) else order.experiment.teacher_name
        results["moved_teacher"]["model"] = whose
    if "generations" in results:
        results["generations"]["model"] = f"{len(results['rounds'])} x {student}"
    for member, asked in zip(results.get("members") or [], order.experiment.teachers, strict=False):
        member["model"] = asked.name
    if results["rounds"]:
        results |= {"round_chosen": artifacts["student-train"].key, "round_by": recipe.counts}
    if order.experiment.assistants:
        names = [*order.config["assistants"], order.config["choices"]["student"]]
        results["rounds"] = [
            {"model": name, **entry} for name, entry in zip(names, results["rounds"], strict=True)
        ]
    folder.run["predictions"], worst = write_predictions(found, folder.path, results, order.headline)
    results |= {"worst": worst} if worst else {}
    folder.run |= {"unread": unread} if (unread := write_unread(artifacts["prepare"], folder.path)) else {}
    audit = artifacts["audit"].json("audit.json") if "audit" in artifacts else None
    prices = (order.config.get(key) for key in ("answer_price", "answer_seconds"))
    results |= {"bill": bill} if (bill := bill_of(audit, results, *prices)) else {}
    return folder.finish(results, load_examples(found), order.headline, audit), order.headline, audit


class Log(Listener):
    """The log file: what each stage did and said."""

    def started(self, name: str, key: str, cached: bool) -> None:
        _log.info("%s %s %s", name, "is in the store:" if cached else "begins:", key)

    def note(self, name: str, text: str, level: str) -> None:
        _log.log(logging.WARNING if level == "warning" else logging.INFO, "%s: %s", name, text)

    def finished(self, name: str, key: str, cached: bool, seconds: float) -> None:
        if not cached:
            _log.info("%s is done after %.1f s", name, seconds)
