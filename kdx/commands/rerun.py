"""Run a run folder again from itself, and say whether it gives the same numbers."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdx.commands._likeness import REPORT, from_store, rerun_report, show_likeness
from kdx.commands._tell import Alone
from kdx.commands._words import Option, Words, asks_for_help, help_text, make_folder, only_name, parse_words
from kdx.config import compose, grid, restore
from kdx.config.flags import apart
from kdx.config.options import use_own
from kdx.config.quoting import quote_paths
from kdx.config.wire import Order, examine_config
from kdx.core import output, path_checks
from kdx.core.documents import dump
from kdx.core.errors import UserError, UserErrors
from kdx.core.files import LogFile
from kdx.pipeline.recipes.recipe import build_recipe
from kdx.pipeline.stages import LABEL
from kdx.report.run.written import write_or_error
from kdx.runs import diff
from kdx.runs.reading import Run, as_written, read_mapping, read_run
from kdx.runs.run import passes_unread
from kdx.store.places import recorded
from kdx.store.stage import split_number
from kdx.training.runtime import MOST_THREADS, cores, share_of_cores

OPTIONS = (
    Option("to", None, "the folder of the new run; default: outputs/reruns/<time>_<name>"),
    Option(
        "store",
        None,
        "finished stages are taken from here, and kept; default: a store of its own in the new folder, so "
        "that all is computed again",
    ),
)
_GROUPS = ("device", "dataset", "teacher", "members", "allow")
_PATHS = (
    "dataset.root",
    "dataset.unlabelled_root",
    "teacher.file",
    "teacher.checkpoint",
    "student.checkpoint",
)
HELP = help_text(
    "kdx rerun RUN [key=value ...]",
    OPTIONS,
    f"""Where data lie now: {", ".join(_PATHS)}
device=NAME, device.threads=N and other keys of device, as in kdx train; default: what the run was made with
allow=[package] and --config-dir PATH: your own models, losses and options, as in kdx train
To change anything else: kdx train --config RUN KEY=VALUE; kdx config RUN prints the run as a file""",
)
_log = logging.getLogger("kdx")


def main(argv: Sequence[str]) -> int:
    """Exit code 0: the same numbers; 1: others, or the run failed; 2: bad input, and nothing was run."""
    if asks_for_help(argv):
        print(HELP)
        return 0
    flags, rest = apart(argv)
    if strange := [flag for flag in flags if not flag.startswith("--config-dir=")]:
        raise UserError(
            f"kdx rerun has no flag {strange[0]}; settings are written key=value: kdx rerun --help"
        )
    use_own(flags)
    words = parse_words("rerun", rest, OPTIONS, _GROUPS)
    run = read_run(only_name("rerun", words, "run folder"))
    _check_words(words, run)
    compose.register_names()
    to = _folder(words, run)
    settled = settled_there(run)
    with as_written(run.path):
        order, notes = _order_of(run, words, to, settled)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    report = {"of": str(run.path.resolve()), "status": "running", "notes": notes}
    fresh = not (to / REPORT).exists()
    make_folder(to, "the folder of the new run", "to=FOLDER")
    write_or_error(to / REPORT, dump(report))
    code = run_again(order, to, rest)
    if code == 2 and fresh:
        clear(to)
        return code
    now = read_run(to, str(order.store))
    report["status"] = now.document["status"]
    if code not in (0, 1):
        write_or_error(to / REPORT, dump(report))
        output.answer({"folder": str(to), **report})
        return code
    found = diff.differences(run, now)
    stored = from_store(now)
    report |= rerun_report(found, run, stored)
    write_or_error(to / REPORT, dump(report))
    output.answer({"folder": str(to), **report})
    if not output.wants_document():
        show_likeness(found, run, now, stored)
    output.instead(f"what differs is in {to / REPORT}")
    return 0 if found.same and code == 0 else 1


def _check_words(words: Words, run: Run) -> None:
    """A rerun learns where things are, never what to do otherwise. Raises UserErrors."""
    more = recorded(*map(run.document.get, ("config", "protocol")))
    members = run.document["config"].get("members")
    more |= {f"members.{number}.checkpoint" for number in (members if isinstance(members, Mapping) else ())}
    errors, paths = [], list(dict.fromkeys([*_PATHS, *sorted(more)]))
    for word in words.composed:
        key = word.partition("=")[0]
        if key not in ("allow", *paths) and key.split(".")[0] != "device":
            errors.append(
                f"'{key}' is what the run says: kdx rerun takes where things are now "
                f"({', '.join(paths)}), device and allow; to change anything else, kdx train --config RUN "
                f"{word}"
            )
    if errors:
        raise UserErrors(errors)


def _folder(words: Words, run: Run) -> Path:
    """Where the new run goes: nowhere that holds anything but an earlier rerun of the same run, which then
    goes on.
    """
    if not words["to"]:
        path_checks.in_utf8("to", Path("outputs/reruns"))
        return Path("outputs/reruns") / compose.run_name([run.path.resolve().name])
    to = path_checks.folder("to", words["to"])
    if os.path.isfile(to / REPORT) and read_mapping(to / REPORT).get("of") == str(run.path.resolve()):
        return to
    if to.is_symlink() or (to.exists() and any(to.iterdir())):
        raise UserError(
            f"'{to}' is there already, and is no rerun of '{run.path}': choose another folder with to=FOLDER"
        )
    return to


def clear(to: Path) -> None:
    """Takes the report back where the run never began."""
    (to / REPORT).unlink(missing_ok=True)
    if to.is_dir() and not any(to.iterdir()):
        to.rmdir()


def settled_there(run: Run) -> dict[str, Any]:
    """Device, threads and precision that the run was made with: as run.json says, or of older runs what
    trained the student says.
    """
    environment, results = run.document.get("environment"), run.document.get("results")
    found = environment.get("settled") if isinstance(environment, Mapping) else None
    found = dict(found) if isinstance(found, Mapping) else {}
    if not found and (name := diff.trains(run)):
        try:
            summary = run.stage(name).json("summary.json")
            found = {key: summary[key] for key in ("device", "threads") if key in summary}
        except (UserError, TypeError):
            pass  # its store is not here: the number of threads stays unknown, which is reported
    roles = results if isinstance(results, Mapping) else {}
    found["precision"] = {
        role: about["precision"]
        for role, about in roles.items()
        if isinstance(about, Mapping) and "precision" in about
    }
    teacher = run.document["config"].get("teacher_pretrain")
    answers = {
        about for name, about in _of_stages(run, "precision").items() if split_number(name)[0] == LABEL.name
    }
    probed = isinstance(teacher, Mapping) and teacher.get("precision") != "fp32"
    if probed and len(answers) == 1 and answers <= {"fp32", "bf16"}:
        found["precision"]["pseudo_label"] = answers.pop()
    return found


def threads_there(run: Run) -> dict[str, int]:
    """Stage -> the threads that it was made with, as far as run.json says so: each training may have had a
    number of its own."""
    return {
        name: threads
        for name, threads in _of_stages(run, "threads").items()
        if type(threads) is int and 0 < threads <= MOST_THREADS
    }


def _of_stages(run: Run, key: str) -> dict[str, Any]:
    """Stage -> what run.json says of it under a key; of those without it nothing."""
    stages = run.document.get("stages")
    return {
        entry["name"]: entry[key]
        for entry in (stages if isinstance(stages, list) else ())
        if isinstance(entry, Mapping) and isinstance(entry.get("name"), str) and key in entry
    }


def _order_of(run: Run, words: Words, to: Path, settled: Mapping[str, Any]) -> tuple[Order, list[str]]:
    """(the run's own order with its output here, notes). Raises UserErrors with all that is wrong, as kdx
    train would.
    """
    given = quote_paths(words.composed)
    if len(grid.jobs(given, multirun=True)) > 1:
        raise UserError("kdx rerun takes one value of each key; quote a value that holds a comma")
    config, errors, notes = restore.restore(run.document["config"], given, settled)
    if config is None or errors:
        raise UserErrors(errors)
    config["store"] = str(words["store"] or to / "store")
    order, errors = examine_config(config)
    if errors:
        raise UserErrors(errors)
    if "device.threads" not in {word.partition("=")[0] for word in given}:
        order = replace(order, runtime=replace(order.runtime, by_stage=threads_there(run)))
    restore.check_data(
        config["dataset"], order.experiment.dataset.build(), {word.partition("=")[0] for word in given}
    )
    whole = passes_unread(order)
    if not whole and order.recipe and build_recipe(order.recipe).releases(order.experiment):
        raise UserError(
            f"'{run.path}' is a release of private rows, which is made once: another one draws its noise "
            "anew, and the epsilons would add; keep its store, or name the seeds of its noise in a new run "
            "(recipe.noise_seed, and of a made-up table pool.noise_seed)"
        )
    if not whole:
        from kdx.config.validate import preflight

        path_checks.folder("store", config["store"])
        preflight(order)
    threads = config["device"]["threads"]
    if "threads" not in settled and threads == "auto":
        notes.append(
            f"the number of threads was not recorded: {share_of_cores()} are used, and another number sums "
            "in another order"
        )
    elif threads != "auto" and threads > cores():
        as_it_was = threads == settled.get("threads")
        notes.append(
            f"the run used {threads} threads, and so does this one, with {cores()} cores: "
            "slower, and the same sums"
            if as_it_was
            else f"device.threads={threads}, with {cores()} cores: slower than with as many threads as cores"
        )
    return order, notes


def run_again(order: Order, to: Path, words: Sequence[str]) -> int:
    """One run as `kdx train` makes it, with its log beside it."""
    from kdx.commands import train

    train.quiet_writers()
    handler = LogFile(to / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(levelname)s %(message)s"))
    level, passed_on = _log.level, _log.propagate
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    _log.propagate = False
    try:
        return train.take_turn(order, to, words, Alone("rerun"))
    finally:
        _log.removeHandler(handler)
        _log.setLevel(level)
        _log.propagate = passed_on
        handler.close()
