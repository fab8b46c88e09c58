#!/usr/bin/env python3
"""Times `kdx compare` on fabricated run folders: a new process each time, as a user starts it.

scripts/bench_compare.py                 200 runs: 40 rows of 5 seeds, without and with --html
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=40, help="at most 40")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    from fabricate import many

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        many(place / "sweep", args.rows, args.seeds)
        for words in ([], ["html=report.html"]):
            times = []
            for _ in range(args.repeats):
                begun = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-m", "kdx.cli", "compare", "sweep", *words],
                    cwd=place,
                    env={"PYTHONPATH": str(ROOT)},
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
                times.append(time.perf_counter() - begun)
            what = " ".join(["kdx compare", *words])
            print(
                f"{what}: {args.rows * args.seeds} runs, median {median(times):.2f} s, best {min(times):.2f} "
                f"s of {args.repeats}"
            )


if __name__ == "__main__":
    main()
