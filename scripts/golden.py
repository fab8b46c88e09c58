#!/usr/bin/env python
"""Whether this code gives the numbers of another commit's, bit for bit: the default run, and a short one
of each recipe.

    python scripts/golden.py COMMIT            both sides run here, on one thread; exit code 1: they differ
    python scripts/golden.py COMMIT chain      only these runs

Two processors round differently, so nothing is kept: the other commit's code is checked out beside this one
and runs on the same machine. Latencies, times and keys of the store are not compared, as keys hold the
digest of the code; a value that the other commit did not have is counted, and differs from nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HERE = ("device=cpu", "device.threads=1")
SHORT = (
    *HERE,
    "teacher=cnn_small",
    "student=cnn_tiny",
    "teacher_pretrain.steps=40",
    "student_train.steps=30",
)
RUNS = {
    "default": HERE,
    "distil": (*SHORT, "loss=slam", "rounds=2"),
    "weighted": (*SHORT, "loss=weighted"),
    "active": (*SHORT, "loss=soft", "recipe=active", "select=rad", "budget=100", "rounds=2"),
    "chain": (*SHORT, "recipe=chain", "teacher=cnn", "assistants=[cnn_small]"),
    "supervised": (*SHORT, "loss=fixmatch"),
}
PARTS = ("results", "audit", "gate", "protocol")
"""Of a run.json, what is compared."""
WORDS = ("results.metric", "results.metrics", "results.roles", "gate.text")
"""What says how numbers are shown, and sentences."""
APART = ("latency_ms", "seconds", "teacher_seconds_saved", "data_key", "key", "round_chosen")
"""Times, and names of artifacts."""
FROM_CONFUSION = ("confused", "predicted", "arrays")
"""Of the confusion matrix, which is compared itself, and newer than some commits to compare with."""


def numbers(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything inside."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            here = f"{name}.{key}".lstrip(".")
            key_of_store = key == "answers" and isinstance(inner, str)
            if key not in (*APART, *FROM_CONFUSION) and here not in WORDS and not key_of_store:
                yield from numbers(inner, here)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from numbers(inner, f"{name}.{place}")
    else:
        yield name, value


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[int, list[str], int]:
    """Two run.json -> (values compared, a line for each that differs, values that only the second has)."""
    old, new = (dict(numbers({part: run.get(part) for part in PARTS})) for run in (before, after))
    # what only does beforehand what evaluate does is newer than some commits to compare with
    stages = [
        [name for stage in run["stages"] if not (name := stage["name"]).endswith("-predict")]
        for run in (before, after)
    ]
    reported = [f"stages: {stages[0]} and now {stages[1]}"] if stages[0] != stages[1] else []
    nothing = object()
    changed = [name for name in old if old[name] != new.get(name, nothing)]
    lines = [f"{name}: {old[name]} and now {new.get(name, 'not there')}" for name in changed]
    return len(old), [*reported, *lines], len(new.keys() - old.keys())


def run(tree: Path, place: Path, words: Sequence[str]) -> dict[str, Any]:
    """The run.json of a run by the code of a tree."""
    command = [
        sys.executable,
        "-m",
        "kdx.cli",
        "train",
        *words,
        f"store={place / 'store'}",
        f"hydra.run.dir={place / 'run'}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=place.parent, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"kdx train {' '.join(words)} failed with the code of {tree}:\n{done.stderr}")
    return json.loads((place / "run/run.json").read_text(encoding="utf-8"))


def main(words: Sequence[str]) -> int:
    if not words or set(words[1:]) - RUNS.keys():
        sys.exit(f"{__doc__}\nRuns: {', '.join(RUNS)}")
    wrong = 0
    with tempfile.TemporaryDirectory() as top:
        other, place = Path(top, "code"), Path(top)
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(other), words[0]], check=True)
        try:
            for name in words[1:] or RUNS:
                made = []
                for side, tree in (("before", other), ("after", ROOT)):
                    (place / f"{name}-{side}").mkdir()
                    made.append(run(tree, place / f"{name}-{side}", RUNS[name]))
                compared, reported, new = differences(*made)
                print(f"{name:12} {compared:,} values, {len(reported)} differ; {new:,} are new")
                print("".join(f"    {line}\n" for line in reported[:20]), end="", flush=True)
                wrong += bool(reported)
        finally:
            subprocess.run([*git, "remove", "--force", str(other)], check=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
