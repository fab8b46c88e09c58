#!/usr/bin/env python
"""How a run grows with its pool: peak memory and processor time of `kdx train` on made-up pictures of 3x32x32
with 2,000, 20,000 and 200,000 rows in the pool, cold, with a second seed, and from the store.

    python scripts/bench_growth_data.py                       # this tree
    python scripts/bench_growth_data.py --before COMMIT       # and another commit's, side by side
    python scripts/bench_growth_data.py rows=2000,20000

Each run is a process of its own, one thread, few steps. Memory: the peak of the process that the system
counted (ru_maxrss), in which pages of mapped files count too. Time: its processor seconds, as other work on
the machine leaves them alone. Disk: what the store holds after both seeds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROWS = (2_000, 20_000, 200_000)
LABELLED, VALIDATION = 500, 500
WORDS = (
    "device=cpu",
    "device.threads=1",
    "dataset=synthetic",
    "dataset.test_rows=500",
    f"dataset.labelled={LABELLED}",
    f"dataset.validation={VALIDATION}",
    "teacher=cnn_small",
    "student=cnn_tiny",
    "teacher_pretrain.steps=10",
    "student_train.steps=20",
    "augment=[flip_crop]",
)
RUNS: Mapping[str, Sequence[str]] = {"cold": (), "second seed": ("seed=1",), "cached": ()}


@dataclass(frozen=True)
class Spent:
    """seconds: of the processor; megabytes: the peak of the process."""

    seconds: float
    megabytes: float


def measured(tree: Path, place: Path, words: Sequence[str]) -> Spent:
    """One `kdx train` by the code of a tree, in a folder. Exits where it fails."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    with (place / "printed.txt").open("w") as printed:
        child = subprocess.Popen(
            [sys.executable, "-m", "kdx.cli", "train", *words],
            cwd=place,
            env=environment,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(words)} ended with {child.returncode}:\n{(place / 'printed.txt').read_text()}")
    return Spent(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def of_pool(tree: Path, rows: int, place: Path) -> dict[str, Spent]:
    """The three runs with so many rows in the pool, in a new folder."""
    words = (*WORDS, f"dataset.train_rows={rows + LABELLED + VALIDATION}")
    return {name: measured(tree, place, [*words, *more]) for name, more in RUNS.items()}


def stored_megabytes(place: Path) -> float:
    files = (place / "outputs" / "store").rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def table(name: str, tree: Path, sizes: Sequence[int]) -> list[str]:
    """Lines of Markdown: each size beside the smallest."""
    lines, first = [], {}
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            found = of_pool(tree, rows, Path(folder))
            disk = stored_megabytes(Path(folder))
        first = first or found
        cells = [
            f"{spent.seconds:.1f} ({spent.seconds / first[run].seconds:.1f}x) | "
            f"{spent.megabytes:,.0f} ({spent.megabytes - first[run].megabytes:+,.0f})"
            for run, spent in found.items()
        ]
        lines.append(f"| {name} | {rows:,} | {' | '.join(cells)} | {disk:,.0f} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


def main(words: Sequence[str]) -> int:
    commit = words[words.index("--before") + 1] if "--before" in words else None
    given = next((word.partition("=")[2] for word in words if word.startswith("rows=")), "")
    sizes = [int(part) for part in given.split(",")] if given else list(ROWS)
    heads = " | ".join(f"{run}: s (x) | MB (+)" for run in RUNS)
    lines = [f"| code | rows | {heads} | store, MB |", "|---|---|" + "---|" * (2 * len(RUNS) + 1)]
    with tempfile.TemporaryDirectory() as top:
        if commit:
            packed = subprocess.run(
                ["git", "-C", str(ROOT), "archive", commit], check=True, capture_output=True
            ).stdout
            subprocess.run(["tar", "-x", "-C", top], input=packed, check=True)
            lines += table(commit[:7], Path(top), sizes)
        lines += table("this", ROOT, sizes)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
