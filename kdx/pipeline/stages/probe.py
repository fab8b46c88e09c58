"""probe: which precision, and how many threads, train this network faster on this machine. Its answer is
stored, so that `precision: auto` means one thing, and a run that is made again has its threads again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn

from kdx.core.examples import Example, random_rows
from kdx.core.task import Task
from kdx.core.trees import moved, part_of
from kdx.core.types import Answers, Inputs
from kdx.pipeline.stages.arrays import build_task
from kdx.pipeline.stages.files import new_network
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.moved import kind_of_old
from kdx.store.work import Work
from kdx.training.runtime import Runtime

STEPS, _FEW = 3, 8
HOPELESS = 4.0
"""A precision that is so many times slower on a few rows is not tried on a batch."""
LONG = 0.5
"""Seconds of a step at all threads from which on more of them are better: no other number is tried."""
_SLOWER = 1.5
"""Of threads, from the most to the fewest, those behind one that is so many times slower are not tried."""
_SECONDS, _ROUNDS = 0.2, 9
"""About so long, and so many times at most, each number of threads is timed."""


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    model: Component,
    batch_size: int,
    machine: str,
    precision: str = "fp32",
    threads: Sequence[int] = (),
) -> None:
    """threads: those to try at `precision`, in ascending order; none: the precisions are tried.

    Files: probe.json {"precision": "fp32" | "bf16", "seconds": {precision: median of one training step}}, of
    those tried; or {"seconds": {number of threads: the same}}.
    """
    if runtime.device == "mps":
        work.write_json("probe.json", {"precision": "fp32", "seconds": {}})
        return
    about = data.json("data.json")
    with torch.random.fork_rng():
        network = runtime.place(new_network(model, about, read_weights=False)).train()
        trial = Trial(network, build_task(about), runtime)
        everything = trial.made_up(kind_of_old(about)["example"], batch_size)
        if threads:
            seconds = by_threads(trial, everything, precision, threads)
            work.write_json("probe.json", {"seconds": {str(n): took for n, took in seconds.items()}})
            return
    # without instructions for it a bf16 step takes ten times as long as one in fp32: that shows on a few
    # rows too
    some = part_of(everything[0], 0, _FEW), part_of(everything[1], 0, _FEW)
    few = {p: [trial.step(*some, p) for _ in range(2)][1] for p in ("fp32", "bf16")}
    running = [p for p in few if few[p] < HOPELESS * few["fp32"]]
    rounds = [{p: trial.step(*everything, p) for p in running} for _ in range(STEPS + 1)]
    medians = {p: sorted(r[p] for r in rounds[1:])[STEPS // 2] for p in running}
    work.write_json("probe.json", {"precision": min(medians, key=medians.__getitem__), "seconds": medians})


def by_threads(
    trial: Trial, rows: tuple[Inputs, Answers], precision: str, threads: Sequence[int]
) -> dict[int, float]:
    """Threads -> median seconds of a step, the numbers by turns, as others may be at work on this machine;
    of those that were tried. Leaves the number of threads as it was."""
    before = torch.get_num_threads()

    def step(count: int) -> float:
        torch.set_num_threads(count)
        return [trial.step(*rows, precision) for _ in range(2)][1]  # the first one wakes them

    try:
        first: dict[int, float] = {}
        for count in sorted(threads, reverse=True):
            first[count] = min(step(count) for _ in range(2))
            if first[count] > min(LONG, _SLOWER * min(first.values())):
                break
        rounds = max(1, min(_ROUNDS, int(_SECONDS / (2 * sum(first.values())))))
        timed = [{count: step(count) for count in first} for _ in range(rounds)]
        return {count: median([one[count] for one in timed]) for count in first}
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Trial:
    """A network that learns from made-up rows."""

    network: nn.Module
    task: Task
    runtime: Runtime

    def made_up(self, example: Example, rows: int) -> tuple[Inputs, Answers]:
        """Rows and their truth, on the device."""
        generator, device = torch.Generator().manual_seed(0), self.runtime.device
        shown = moved(random_rows(example, rows), device)
        return shown, moved(self.task.made_up_truth(rows, generator), device)

    def step(self, rows: Inputs, truth: Answers, precision: str) -> float:
        """Seconds of one training step, the optimiser apart."""
        start = time.perf_counter()
        with self.runtime.autocast(precision):
            loss = self.task.loss(self.network(rows), truth).mean()
        loss.backward()
        loss.item()
        return time.perf_counter() - start
