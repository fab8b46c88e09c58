#!/usr/bin/env python
"""Processor seconds of the default run from an empty store, stage by stage: this code against another
commit's, on one thread each, the two at the same time, so that other work on the machine slows both alike.

    scripts/bench_default.py COMMIT --repeats 3
    scripts/bench_default.py COMMIT --repeats 1 loss=slam         other words for `kdx train`

Each run is a process of its own, user and system time. Seconds are the least of the repeats, and the ratio is
the median of those of runs side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORDS = ("device=cpu", "device.threads=1")
CODE = """
import json, sys, time
from pathlib import Path
file, *words = sys.argv[1:]
from kdx.store.stage import Stage
spent, run = {}, Stage.__call__
def timed(stage, work, *more, **inputs):
    begun = time.process_time()
    run(stage, work, *more, **inputs)
    spent[work.name] = time.process_time() - begun
Stage.__call__ = timed
from kdx.cli import main
code = main(["train", *words])
spent["all"] = time.process_time()
Path(file).write_text(json.dumps(spent))
sys.exit(code)
"""


def spent(tree: Path, words: Sequence[str]) -> dict[str, float]:
    """Stage -> seconds, "all" of the process, and what is left beside the stages."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        command = [sys.executable, "-c", CODE, str(place / "spent.json"), *WORDS, *words]
        command += [f"store={place / 'store'}", f"hydra.run.dir={place / 'run'}"]
        environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        done = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"kdx train {' '.join(words)} failed with the code of {tree}:\n{done.stderr}")
        found: dict[str, float] = json.loads((place / "spent.json").read_text())
    stages = {name: seconds for name, seconds in found.items() if name != "all"}
    return {**stages, "beside the stages": found["all"] - sum(stages.values()), "all": found["all"]}


def both(other: Path, words: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Of the other tree, and of this one."""
    with ThreadPoolExecutor(2) as pool:
        before, now = pool.map(lambda tree: spent(tree, words), (other, ROOT))
    return before, now


def table(before: Sequence[Mapping[str, float]], now: Sequence[Mapping[str, float]]) -> str:
    """One line a stage that takes .1 s or more: the least of each side, the median of the ratios."""
    lines = ["| processor seconds | before | now | now / before |", "|---|---|---|---|"]
    for name in before[0]:
        old, new = ([run.get(name, 0.0) for run in side] for side in (before, now))
        if min(old) >= 0.1:
            ratio = statistics.median(b / a for a, b in zip(old, new, strict=True))
            lines.append(f"| {name} | {min(old):.2f} | {min(new):.2f} | {ratio:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder, "code")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(other), asked.commit], check=True)
        try:
            # bytecode is written, files are read once
            both(other, ["teacher_pretrain.steps=2", "student_train.steps=2", *asked.words])
            runs = [both(other, asked.words) for _ in range(asked.repeats)]
        finally:
            subprocess.run([*git, "remove", "--force", str(other)], check=True)
    print(table(*zip(*runs, strict=True)))


if __name__ == "__main__":
    main()
