"""The `sweep` part of scripts/bench.py: twelve students of one teacher, both ways really run.

tutorial  its loop twelve times, one after the other in this process, each from new weights, with a live
          fp32 teacher; then the student answers the test rows. Neither start nor reading data counts.
kdx       `kdx train -m` over three temperatures and four learning rates in a process of its own, with all
          that belongs to it: start, checks, reading and splitting the data, labels once, validation,
          checkpoints, the report of each run and of the sweep.
Half of the tutorial's runs come before the sweep, half after it, so that a slower machine slows both.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from bench_train import Pair, Settings, keep_blocks, tutorial

from kdx.pipeline.stages.arrays import open_split

TEMPERATURES, RATES = (2, 4, 8), (0.001, 0.003, 0.01, 0.03)
RUNS = len(TEMPERATURES) * len(RATES)
GOAL = 4.7


def sweep(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Twelve short students of one teacher in a sweep, against the tutorial's loop twelve times."""
    from bench import timed

    (pair,) = args.pair or ("resnet32x4:resnet8x4",)
    teacher, _, student = pair.partition(":")
    steps = args.sweep_steps or (2 if args.quick else 100)
    settings = Settings(
        teacher=teacher,
        student=student,
        precisions=("bf16",) if "bf16" in args.precision else ("fp32",),
        batch=args.batch,
        rows=max(2 * args.batch, 100) if args.quick else 1024,
        threads=args.threads,
        repeats=1,
        steps=steps,
        parity=0,
    )
    made = Pair(settings, folder / "tutorial")
    theirs = [0.0, 0.0]

    def some(count: int) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        keep_blocks(False)
        for number in range(count):
            print(f"tutorial {number + 1} of {count}", file=sys.stderr)
            alone(made, steps)
        theirs[0] += time.process_time() - cpu
        theirs[1] += time.perf_counter() - wall

    some(RUNS // 2)
    words = own_words(made, folder / "sweep", steps)
    (folder / "sweep").mkdir()
    print("the sweep", file=sys.stderr)
    try:
        ours = timed([sys.executable, "-m", "kdx.cli", "train", "-m", *words], folder / "sweep")
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"`kdx train -m {' '.join(words)}` failed with {error.returncode}") from error
    done = len(list((folder / "sweep").glob("outputs/sweeps/*/*/run.json")))
    if done != RUNS:
        raise SystemExit(f"the sweep made {done} runs in place of {RUNS}")
    some(RUNS - RUNS // 2)
    cpu, wall = theirs[0] / ours[0], theirs[1] / ours[1]
    print(
        f"\nsweep: {RUNS} students, {pair.replace(':', ' -> ')}, {steps} steps each, batch {settings.batch}, "
        f"{settings.rows} rows, {settings.precisions[0]} in kdx; CPU (wall)\n"
        f"  tutorial, {RUNS} times  {theirs[0]:8.1f} s ({theirs[1]:8.1f})\n"
        f"  kdx, one sweep     {ours[0]:8.1f} s ({ours[1]:8.1f})\n"
        f"  ratio {cpu:.2f} ({wall:.2f})  goal {GOAL} of resnet32x4 -> resnet8x4"
    )
    return {"tutorial": theirs, "kdx": list(ours), "ratio": cpu, "ratio_wall": wall, "steps": steps}


def alone(pair: Pair, steps: int) -> None:
    """One run of the tutorial: so many steps, and the student's answers to the test rows."""
    loop = tutorial(pair)
    loop.block(steps)
    test = open_split(pair.data, "test", pair.runtime)
    mean, std = (torch.tensor(pair.about[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        pair.student().net.eval()((test.inputs.float() / 255 - mean) / std).argmax(1)


def own_words(pair: Pair, place: Path, steps: int) -> list[str]:
    """The sweep, in the words of a command line; all its own but the teacher's weights."""
    order = pair.words(pair.settings.precisions[0], "stored", pair.checkpoint, steps=steps)
    swept = ("loss.temperature=", "student_train.lr=", "store=")
    return [
        *(word for word in order if not word.startswith(swept)),
        f"loss.temperature={','.join(map(str, TEMPERATURES))}",
        f"student_train.lr={','.join(map(str, RATES))}",
        f"store={place / 'store'}",
        "pseudo_label.gate=warn",
    ]
