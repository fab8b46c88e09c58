"""probe: which precision, and how many threads, train this network faster on this machine. Its answer is
stored, so that `precision: auto` means one thing, and a run that is made again has its threads again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn

from kdx.core import shortage
from kdx.core.examples import Example, random_rows
from kdx.core.task import Task
from kdx.core.trees import moved, part_of
from kdx.core.types import Answers, Inputs
from kdx.pipeline.stages.arrays import build_task
from kdx.pipeline.stages.files import new_network
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.moved import kind_of_old
from kdx.store.resolve import error_in_one_line
from kdx.store.work import Work
from kdx.training.runtime import Runtime

STEPS, _FEW = 3, 8
HOPELESS = 4.0
"""A precision that is so many times slower on a few rows is not tried on a batch."""
LONG = 0.5
"""Seconds of a step from which on fewer threads are tried only as long as they are faster."""
_WORTH = 0.9
"""Of the time of an answer in fp32, below which one in bf16 is worth its bits."""
_SLOWER = 1.5
"""Of threads, from the most to the fewest, those behind one that is so many times slower are not tried."""
_SECONDS, _ROUNDS, _LOOKS = 0.2, 9, 4
"""About so long, and so many times at most, numbers of threads are timed, after a look at each of so many
steps."""


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    model: Component,
    batch_size: int,
    machine: str,
    threads: Mapping[str, Any] | None = None,
    answers: bool = False,
) -> None:
    """threads: {"tried": the numbers to try, "precision": at which}; None: the precisions are tried. answers:
    whether a batch is answered in place of a training step.

    Files: probe.json {"precision": "fp32" | "bf16", "seconds": {precision: median of one training step}}, of
    those tried; or {"seconds": {number of threads: the same}}. Of answers it is bf16 only where that saves a
    tenth, as they have fewer bits.
    """
    nothing: dict[str, Any] = {**({} if threads else {"precision": "fp32"}), "seconds": {}}
    if runtime.device == "mps":
        work.write_json("probe.json", nothing)
        return
    try:
        found = timed(runtime, data, model, batch_size, threads, answers)
    except Exception as error:  # a network that learns from no made-up rows, such as one that acts
        if shortage.kind_of_shortage(error):
            raise
        work.note(f"{model.target} cannot be tried on made-up rows: {error_in_one_line(error)[:200]}")
        found = nothing
    work.write_json("probe.json", found)


def timed(
    runtime: Runtime,
    data: Artifact,
    model: Component,
    batch_size: int,
    threads: Mapping[str, Any] | None,
    answers: bool = False,
) -> dict[str, Any]:
    """The probe.json, see `run`."""
    about = data.json("data.json")
    with torch.random.fork_rng():
        network = runtime.place(new_network(model, about, read_weights=False)).train(not answers)
        trial = (AnswerTrial if answers else Trial)(network, build_task(about), runtime)
        everything = trial.made_up(kind_of_old(about)["example"], batch_size)
        if threads:
            seconds = by_threads(trial, everything, threads["precision"], threads["tried"])
            return {"seconds": {str(n): took for n, took in seconds.items()}}
    # without instructions for it a bf16 step takes ten times as long as one in fp32: that shows on a few
    # rows too
    some = part_of(everything[0], 0, _FEW), part_of(everything[1], 0, _FEW)
    few = {p: [trial.step(*some, p) for _ in range(2)][1] for p in ("fp32", "bf16")}
    running = [p for p in few if few[p] < HOPELESS * few["fp32"]]
    rounds = [{p: trial.step(*everything, p) for p in running} for _ in range(STEPS + 1)]
    medians = {p: sorted(r[p] for r in rounds[1:])[STEPS // 2] for p in running}
    least = _WORTH if answers else 1.0
    faster = "bf16" if medians.get("bf16", math.inf) < least * medians["fp32"] else "fp32"
    return {"precision": faster, "seconds": medians}


def by_threads(
    trial: Trial, rows: tuple[Inputs, Answers], precision: str, threads: Sequence[int]
) -> dict[int, float]:
    """Threads -> median seconds of a step, the numbers by turns, as others may be at work on this machine;
    of those that were tried. Leaves the number of threads as it was."""
    before, first = torch.get_num_threads(), {}
    try:
        for count in sorted(threads, reverse=True):
            torch.set_num_threads(count)
            first[count] = _looked_at(lambda: trial.step(*rows, precision))
            least = min(first.values())
            if first[count] > _SLOWER * least or first[count] > max(least, LONG):
                break
        rounds = min(_ROUNDS, int(_SECONDS / (2 * sum(first.values()))))
        if not rounds:
            return first
        timed = []
        for _ in range(rounds):
            one = {}
            for count in first:
                torch.set_num_threads(count)
                one[count] = [trial.step(*rows, precision) for _ in range(2)][1]  # the first one wakes them
            timed.append(one)
        return {count: median([one[count] for one in timed]) for count in first}
    finally:
        torch.set_num_threads(before)


def _looked_at(step: Callable[[], float]) -> float:
    """Seconds of a step, of which the first has more to do; long ones are made once or twice."""
    found = [step()]
    while len(found) < _LOOKS and sum(found) < LONG:
        found.append(step())
    return min(found)


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


class AnswerTrial(Trial):
    """The same of a network that answers."""

    @torch.inference_mode()
    def step(self, rows: Inputs, truth: Answers, precision: str) -> float:
        start = time.perf_counter()
        with self.runtime.autocast(precision):
            self.network(rows)
        self.runtime.wait()
        return time.perf_counter() - start
