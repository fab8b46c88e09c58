#!/usr/bin/env python3
"""Checks the numbers in the newest run.json under a folder of runs. Standard library only.

    check_run.py outputs/runs                              the default experiment ended well
    check_run.py outputs/runs --cached-like FIRST.json     and did nothing that the first run had done

Prints the run it read and its numbers. Ends with 1 and one line an error where something is wrong.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

STAGES = [
    "decode",
    "prepare",
    "teacher-pretrain",
    "pseudo-label",
    "baseline-train",
    "gate",
    "student-train",
    "audit",
    "teacher-predict",
    "baseline-predict",
    "evaluate",
]
FLOORS = {"teacher": 0.90, "baseline": 0.60, "student": 0.85}
"""Test accuracies below which the default experiment is broken; chance is 0.10."""


def newest(folder: Path) -> Path:
    found = sorted(folder.rglob("run.json"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        sys.exit(f"no run.json under {folder}")
    return found[-1]


def number(run: dict, *path: str) -> float:
    """The number at a path of keys; nan where there is none, so that every comparison with it fails."""
    node = run
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    return float(node) if isinstance(node, (int, float)) and not isinstance(node, bool) else math.nan


def accuracy(run: dict, role: str) -> float:
    return number(run, "results", role, run.get("results", {}).get("headline", "last"), "test", "accuracy")


def problems(run: dict) -> list[str]:
    """What is wrong with a run of the default experiment."""
    found = []
    if run.get("status") != "finished":
        found.append(f"status is {run.get('status')!r}, not 'finished'")
    names = [stage.get("name") for stage in run.get("stages", [])]
    found += [f"stage {name} is missing; there are {names}" for name in STAGES if name not in names]
    for role, floor in FLOORS.items():
        if not floor <= accuracy(run, role) <= 1:
            found.append(f"test accuracy of the {role} is {accuracy(run, role)}, not in [{floor}, 1]")
    teacher, baseline, student = (accuracy(run, role) for role in FLOORS)
    gain = student - baseline
    if not abs(number(run, "results", "gain") - gain) < 1e-6:
        found.append(f"results.gain is {number(run, 'results', 'gain')}, but student - baseline is {gain}")
    # Without a gap between teacher and baseline no part of it can be closed.
    if (
        abs(teacher - baseline) > 1e-6
        and not abs(number(run, "results", "gap_closed") - gain / (teacher - baseline)) < 1e-6
    ):
        found.append(
            f"results.gap_closed is {number(run, 'results', 'gap_closed')}, not {gain / (teacher - baseline)}"
        )
    return found


def probes(stage: dict) -> bool:
    """Whether it times what other stages are made with: where all of them are there, nothing asks for it."""
    return str(stage.get("name")).partition("-")[0] == "probe"


def differences(first: dict, second: dict) -> list[str]:
    """What a second run of the same command did anew: each stage must come from the store and each result be
    the same.
    """
    found = [
        f"stage {stage.get('name')} ran again"
        for stage in second.get("stages", [])
        if stage.get("cached") is not True
    ]
    keys = [
        {stage.get("name"): stage.get("key") for stage in run.get("stages", []) if not probes(stage)}
        for run in (first, second)
    ]
    found += [
        f"stage {name} has another key"
        for name in keys[0]
        if keys[0][name] is None or keys[0][name] != keys[1].get(name)
    ]
    # as text, where nan equals nan
    results = [json.dumps(run.get("results"), sort_keys=True) for run in (first, second)]
    if results[0] != results[1]:
        found.append(f"the results differ: {results[0]} and {results[1]}")
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, help="folder of runs, or one run.json")
    parser.add_argument("--cached-like", type=Path, metavar="RUN.json", help="the run that this one repeats")
    args = parser.parse_args(argv)

    path = args.runs if args.runs.is_file() else newest(args.runs)
    run = json.loads(path.read_text(encoding="utf-8"))
    print(path, {role: accuracy(run, role) for role in FLOORS}, "gain", number(run, "results", "gain"))
    found = problems(run)
    if args.cached_like:
        if path.resolve() == args.cached_like.resolve():
            found.append(f"there is no run after {path}")
        found += differences(json.loads(args.cached_like.read_text(encoding="utf-8")), run)
    for problem in found:
        print(f"{path}: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
