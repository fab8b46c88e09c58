"""What a sweep saves: the thirty runs of the README's example in one sweep, against each of them alone with a
store of its own.

    python scripts/bench_sweep.py                                   # the digits, as long as by default: about
                                                                    40 minutes on one core
    python scripts/bench_sweep.py student_train.steps=200 seeds=2

Every run is a process of its own, one thread each; the sweep comes in the middle of the others, so that a
machine that slows down slows both. Prints wall and processor time and their ratios, and whether the
accuracies are the same.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LOSSES, STUDENTS = ("kd", "slam", "weighted"), ("cnn_small", "cnn_tiny")


def kdx(place: Path, *words: str) -> tuple[float, float, str]:
    """(wall, processor) seconds of one command in `place`, and what it printed."""
    root = Path(__file__).resolve().parent.parent
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "kdx.cli", "train", *words],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        time.monotonic() - began,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        done.stdout,
    )


def accuracies(place: Path) -> dict[str, float]:
    """loss, student and seed -> test accuracy of the distilled student."""
    found = {}
    for file in [*place.glob("outputs/runs/*/run.json"), *place.glob("outputs/sweeps/*/*/run.json")]:
        run = json.loads(file.read_text())
        choices = run["config"]["choices"]
        found[f"{choices['loss']} {choices['student']} {run['config']['seed']}"] = run["results"]["student"][
            "last"
        ]["test"]["accuracy"]
    return found


def main(words: list[str]) -> None:
    seeds = next((int(w.partition("=")[2]) for w in words if w.startswith("seeds=")), 5)
    further = [w for w in words if not w.startswith("seeds=")]
    jobs = list(itertools.product(LOSSES, STUDENTS, range(seeds)))
    apart, alone = [0.0, 0.0], {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (loss, student, seed) in enumerate(jobs):
            if number == len(jobs) // 2:
                place = Path(folder, "sweep")
                place.mkdir()
                together = kdx(
                    place,
                    "-m",
                    f"loss={','.join(LOSSES)}",
                    f"student={','.join(STUDENTS)}",
                    f"seed=range({seeds})",
                    *further,
                )
                print(
                    f"{together[2]}\nthe sweep: {together[0]:.0f} s of wall, "
                    f"{together[1]:.0f} s of processor",
                    flush=True,
                )
            own = Path(folder, f"alone-{number}")
            own.mkdir()
            one = kdx(own, f"loss={loss}", f"student={student}", f"seed={seed}", *further)
            apart = [apart[0] + one[0], apart[1] + one[1]]
            alone |= accuracies(own)
        same = sum(accuracies(Path(folder, "sweep")).get(name) == value for name, value in alone.items())
    print(f"{len(jobs)} runs apart: {apart[0]:.0f} s of wall, {apart[1]:.0f} s of processor")
    print(
        f"ratio: {apart[0] / together[0]:.2f} in wall time, {apart[1] / together[1]:.2f} in processor time; "
        f"{same} of {len(jobs)} accuracies the same"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
