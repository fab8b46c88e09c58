"""Tell what kdx train would do with the same words: stages, time, memory, disk, checks. Trains nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from kdx.commands._check import check_runs
from kdx.commands._show import give, show_table
from kdx.commands._typed import read_words
from kdx.config import grid
from kdx.core import path_checks
from kdx.core.errors import UserError

HELP = """kdx plan WORDS

Takes the words and flags of kdx train (-m, --config-dir DIR) and tells what that command would do: which stages are in the store and which
are missing, an estimate of time, memory and disk from a few timed steps on this device, the checks, the teacher, how strongly the terms of
the loss pull, and the protocol. It trains nothing, and writes no run folder.

  kdx plan                                the default experiment
  kdx plan -m loss=kd,slam 'seed=range(5)'   a sweep; stages that runs share are counted once
  json=FILE, --json FILE                  write the plan to this file too"""  # noqa: E501
LISTS = ("--hydra-help", "--version", "--cfg", "--info")
"""Flags of kdx train that show something, and run nothing."""


def main(argv: Sequence[str]) -> int:
    rest, file = take_file(argv)
    flags, _, words = read_words(rest)
    if "--help" in flags:
        print(HELP)
        return 0
    if any(flag.split("=")[0] in LISTS for flag in flags):
        from kdx.commands import train

        return train.main(rest)
    jobs = check_runs(words, "--multirun" in flags, planned=True)

    from kdx.planning.document import by_sentence, look_ahead

    with Telling() as telling:
        plan = {
            "command": ["kdx", "plan", *argv],
            **look_ahead(((grid.own_words(job.words), job.order) for job in jobs), telling),
        }
    plan["stops"] = [*plan.get("stops", ()), *by_sentence(job.room for job in jobs)]
    if "--multirun" in flags and not grid.all_combinations(words):
        plan["searched"] = (
            "a search chooses its runs as it goes: these are the runs at the ends of its ranges"
        )
    give(plan, show_plan, file)
    return 2 if plan.get("stops") else 0


def take_file(argv: Sequence[str]) -> tuple[list[str], Path | None]:
    """(the other words, the file of json=FILE, --json=FILE or --json FILE)"""
    rest, todo, name = [], list(argv), None
    while todo:
        word = todo.pop(0)
        key, given, value = word.partition("=")
        if key not in ("json", "--json"):
            rest.append(word)
            continue
        follows = key == "--json" and todo and not todo[0].startswith("-") and "=" not in todo[0]
        name = value if given else (todo.pop(0) if follows else "")
        if not name:
            raise UserError("json= needs the name of a file: json=plan.json")
    if name is None:
        return rest, None
    return rest, path_checks.output("json", name)


class Telling:
    """A line on a terminal that says what is being timed; nothing in a pipe."""

    def __enter__(self) -> Telling:
        self.status = None
        if sys.stderr.isatty():
            from rich.console import Console

            console = Console(stderr=True, force_jupyter=False)
            self.status = console.status("looking") if console.is_terminal else None
        if self.status:
            self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.status:
            self.status.stop()

    def __call__(self, name: str) -> None:
        if self.status:
            self.status.update(f"timing a few steps of {name}")


def show_plan(plan: dict) -> None:
    from kdx.planning import text as words

    show_table(words.plan_title(plan), *words.stage_rows(plan), words.totals(plan))
    if len(plan["jobs"]) > 1:
        header, rows, below = words.job_rows(plan)
        print()
        show_table("Jobs", header, rows, below)
    for heading, lines in words.sections(plan).items():
        print()
        show_table(heading, (), (), lines)
