#!/usr/bin/env python
"""What grows with files, combinations, finished runs and classes: this code against another commit's, in one
run, on one machine.

    scripts/bench_growth.py COMMIT                        small sizes, some minutes
    scripts/bench_growth.py COMMIT --files 20000 --combinations 100 --runs 100 500 --classes 1000
    scripts/bench_growth.py COMMIT --only start           of start, files, sweep, reported, classes
    scripts/bench_growth.py --only reported --runs 500    this code alone

Every figure is the processor time (user and system) of a command in a process of its own, the least of
--repeats, the two sides in turn; so other work on the machine counts little. What is looked up in a store is
made first by each side in a store of its own, and is not timed. Nothing is trained for longer than two steps.
Bytecode is written and read, as it is for users, whatever PYTHONDONTWRITEBYTECODE says.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHORT = (
    "device=cpu",
    "device.threads=1",
    "teacher=mlp_small",
    "student=mlp_small",
    "augment=none",
    "teacher_pretrain.steps=2",
    "student_train.steps=2",
    "pseudo_label.views=1",
)
CHECK = """
import sys, time
from contextlib import nullcontext
from kdx.commands._check import check_runs
try:
    from kdx.commands._typed import read_words
    from kdx.core.snapshot import one_command
except ImportError:
    from kdx.commands._check import read_words
    one_command = nullcontext
with one_command():
    check_runs(read_words(sys.argv[1].split())[2], True)  # what is imported and composed once
    begun = time.process_time()
    made = check_runs(read_words(sys.argv[2].split())[2], True)
    print((time.process_time() - begun) / len(made))
"""


@dataclass(frozen=True)
class Side:
    """A tree of code and the folder in which its runs lie."""

    name: str
    tree: Path
    place: Path

    def run(self, words: Sequence[str], code: str | None = None) -> tuple[float, str]:
        """(processor seconds, stdout) of a command of kdx, or of Python code."""
        command = [sys.executable, *(["-c", code] if code else ["-m", "kdx.cli"]), *words]
        environment = {**os.environ, "PYTHONPATH": str(self.tree), "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            command, cwd=self.place, env=environment, capture_output=True, text=True, check=False
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.exit(f"{' '.join(words)[:200]} failed with the code of {self.tree}:\n{done.stderr}")
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout

    def again(self, words: Sequence[str], name: str) -> list[str]:
        """`kdx train` with these words once, untimed; the words of the same from the store."""
        whole = ["train", *words, f"store=store-{name}"]
        if "-m" not in words:
            self.run([*whole, f"hydra.run.dir=first-{name}"])
            return [*whole, f"hydra.run.dir=again-{name}"]
        whole += [f"hydra.sweep.dir=sweep-{name}"]
        self.run(whole)
        return whole


@dataclass(frozen=True)
class Measured:
    """What was measured, in which unit, before and now; goal: what the issue asks for, "" where nothing."""

    what: str
    unit: str
    values: Sequence[float]
    goal: str = ""

    def line(self) -> str:
        """values: of each side, that of now last."""
        before, now = self.values if len(self.values) > 1 else (None, *self.values)
        ratio = f"{before / now:.1f}" if before is not None and now else "-"
        shown = ["-" if value is None else f"{value:,.3g}{self.unit}" for value in (before, now)]
        return f"| {' | '.join([self.what, *shown, ratio, self.goal])} |"


def least(sides: Sequence[Side], repeats: int, of: Callable[[Side], float]) -> list[float]:
    """The least of each side, taken in turn."""
    found = [[of(side) for side in sides] for _ in range(repeats)]
    return [min(values) for values in zip(*found, strict=True)]


def start(sides: Sequence[Side], args: argparse.Namespace) -> Iterator[Measured]:
    words = {side.name: ["plan", *side.again(SHORT, "start")[1:]] for side in sides}
    helped = least(sides, args.repeats, lambda side: side.run(["train", "--help"])[0])
    yield Measured("`kdx train --help`", " s", helped, "0.3 s")
    planned = least(sides, args.repeats, lambda side: side.run(words[side.name])[0])
    yield Measured("`kdx plan` of a cached run", " s", planned, "0.4 s")


def files(sides: Sequence[Side], args: argparse.Namespace) -> Iterator[Measured]:
    found = []
    for count in (args.files // 10, args.files):
        folder = sides[0].place.parent / f"pictures-{count}"
        pictures(folder, count, classes=10)
        words = [*SHORT, "dataset=folder", f"dataset.root={folder}", "dataset.image_size=8"]
        known = {side.name: side.again(words, f"files-{count}") for side in sides}
        found.append(least(sides, args.repeats, lambda side, known=known: side.run(known[side.name])[0]))
        yield Measured(f"a cached run over {count:,} picture files", " s", found[-1])
    ratios = [large / small for small, large in zip(*found, strict=True)]
    yield Measured("the second over the first, for ten times the files", "", ratios, "1.5")


def sweep(sides: Sequence[Side], args: argparse.Namespace) -> Iterator[Measured]:
    base = ["-m", *SHORT[:4], "store=store-none"]
    rates = ",".join(f"0.{number + 1:03}" for number in range(args.combinations // 4))
    varied = [*base, "loss.temperature=1,2,3,4", f"student_train.lr={rates}"]
    first = [*base, "loss.temperature=5,6"]
    given = [" ".join(first), " ".join(varied)]
    checked = least(sides, args.repeats, lambda side: 1000 * float(side.run(given, CHECK)[1].split()[-1]))
    yield Measured(
        f"checking a sweep of {args.combinations // 4 * 4} combinations, each", " ms", checked, "10 ms"
    )


def reported(sides: Sequence[Side], args: argparse.Namespace) -> Iterator[Measured]:
    rates = ",".join(f"0.{number + 1:02}" for number in range(5))
    for runs in args.runs:
        words = ["-m", *SHORT, f"student_train.lr={rates}", f"seed=range({runs // 5})"]
        known = {side.name: side.again(words, f"reported-{runs}") for side in sides}
        found = least(sides, args.repeats, lambda side, known=known: side.run(known[side.name])[0])
        goal = {100: "2 s", 500: "6 s"}.get(runs, "")
        yield Measured(f"a sweep of {runs // 5 * 5} finished runs reported", " s", found, goal)


def classes(sides: Sequence[Side], args: argparse.Namespace) -> Iterator[Measured]:
    for count in (10, args.classes):
        folder = sides[0].place.parent / f"classes-{count}"
        pictures(folder, 5 * count, classes=count)
        words = [*SHORT, "dataset=folder", f"dataset.root={folder}", "dataset.image_size=8"]
        known = {side.name: side.again(words, f"classes-{count}") for side in sides}
        sizes = [(side.place / f"first-classes-{count}/run.json").stat().st_size / 1e6 for side in sides]
        yield Measured(f"run.json of {count:,} classes", " MB", sizes)
        found = least(sides, args.repeats, lambda side, known=known: side.run(known[side.name])[0])
        goal = "3 s of 1,000" if count == args.classes else ""
        yield Measured(f"a cached run of {count:,} classes", " s", found, goal)


def pictures(folder: Path, count: int, classes: int) -> None:
    """Small grey pictures, as many in each class."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(classes):
        place = folder / f"class{number:04}"
        place.mkdir(parents=True, exist_ok=True)
        for row in range(count // classes):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{row:06}.png")


PARTS = {"start": start, "files": files, "sweep": sweep, "reported": reported, "classes": classes}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", nargs="?", help="what to compare with; without it this code alone")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--combinations", type=int, default=40)
    parser.add_argument("--runs", type=int, nargs="+", default=[10])
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", action="append", choices=[*PARTS])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        other = Path(top, "code")
        git = ["git", "-C", str(ROOT), "worktree"]
        sides = [Side("now", ROOT, Path(top, "now"))]
        if args.commit:
            subprocess.run([*git, "add", "--quiet", "--detach", str(other), args.commit], check=True)
            sides.insert(0, Side("before", other, Path(top, "before")))
        try:
            for side in sides:
                side.place.mkdir()
            print(
                "| processor time | before | now | before / now | goal |\n|---|---|---|---|---|", flush=True
            )
            for name in args.only or PARTS:
                for measured in PARTS[name](sides, args):
                    print(measured.line(), flush=True)
        finally:
            if args.commit:
                subprocess.run([*git, "remove", "--force", str(other)], check=True)


if __name__ == "__main__":
    main()
