"""What every rehearsal has at hand: the device, a clock, the stages foreseen, and networks that answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from kdx.core.hidden_answers import TellsHidden, head_width
from kdx.core.task import HELD_BYTES, Task
from kdx.core.trees import leaves, part_of
from kdx.core.types import Batch, Frozen, Split, Teacher
from kdx.methods.teachers import live_teacher
from kdx.pipeline.foretelling import PlannedStage, networks_asked
from kdx.pipeline.pace import ThreadsOfStages
from kdx.pipeline.stages.arrays import build_task
from kdx.pipeline.stages.files import open_together
from kdx.pipeline.stages.packing import DENSE, Packing, packing_of
from kdx.pipeline.stages.settled import hidden_network
from kdx.store.artifact import Artifact
from kdx.tasks.kept import HIDDEN_STATES
from kdx.training.predict import predict
from kdx.training.runtime import Runtime

WARM, _FEWEST, _MOST = 2, 3, 50
"""Repetitions that are not counted, and the fewest and the most that are."""
SECONDS, SLOW = 0.7, 5.0
"""After so long the fewest are enough; after SLOW a single one is, and of what takes twice as long by itself
no other is tried.
"""
_SMALL, _FEW = 32, 512
"""The fewest and the most rows that are passed through a network to time it."""


@dataclass(frozen=True)
class Bench:
    """steps: of all runs, by key. real: inputs, or an artifact, with what stands in for what is missing.
    pace: how many threads a training gets."""

    runtime: Runtime
    steps: Mapping[str, PlannedStage]
    real: Callable[[Any], Any]
    pace: ThreadsOfStages

    def timed(self, work: Callable[[], Any]) -> float:
        """Seconds."""
        begun = time.perf_counter()
        work()
        self.runtime.wait()
        return time.perf_counter() - begun

    def forward(self, network: torch.nn.Module, split: Split, precision: str = "fp32") -> float:
        """Seconds a row of `predict` on clean rows; the slower the network, the fewer rows are tried."""
        begun = time.perf_counter()
        one = leaves(predict(network, part(split, 1), self.runtime, precision=precision))
        self.runtime.wait()
        if (alone := time.perf_counter() - begun) > SECONDS:
            return alone
        most = max(1, HELD_BYTES // sum(leaf.nbytes for leaf in one.values()))
        first = part(split, min(most, _SMALL))
        pace = self.timed(lambda: predict(network, first, self.runtime, precision=precision)) / len(first)
        if pace * len(first) > SECONDS:
            return pace
        few = part(split, min(most, max(_SMALL, min(_FEW, int(SECONDS / pace)))))
        return self.timed(lambda: predict(network, few, self.runtime, precision=precision)) / len(few)

    def network(self, artifact: Artifact | Sequence[Artifact]) -> torch.nn.Module:
        """Of several the ensemble."""
        return self.runtime.place(open_together([artifact] if isinstance(artifact, Artifact) else artifact))

    def teacher(self, asked: PlannedStage) -> Teacher:
        """Who answers in a labelling stage."""
        networks = [self.network(teacher) for teacher in self.real(networks_asked(asked))]
        return live_teacher(
            [Frozen(network) for network in networks],
            "main",
            self.task(asked).mean,  # another aggregate takes as long
            hidden=hidden_network(networks, asked.inputs.get("form")) is not None,
        )

    def task(self, step: PlannedStage) -> Task:
        """Of the data that a stage works on."""
        return build_task(step.inputs["data"].json("data.json"))

    def hidden(self, asked: PlannedStage) -> TellsHidden | None:
        """The network whose hidden states a labelling stage keeps; None: it keeps answers."""
        form = asked.inputs.get("form")
        if not form or form["name"] != HIDDEN_STATES:
            return None  # without a look at them
        return hidden_network([self.network(one) for one in self.real(networks_asked(asked))], form)

    def packing(self, asked: PlannedStage, hidden: TellsHidden | None = None) -> Packing:
        """What a labelling stage keeps of each answer; where that hangs on the teacher, the likeliest.
        hidden: see `hidden`, where files are to be laid for what it tells."""
        form = asked.inputs.get("form")
        about = DENSE if not form else {**form, "name": {"auto": "topk"}.get(form["name"], form["name"])}
        if hidden:
            about = {**about, "width": head_width(hidden)}
        return packing_of(about, self.task(asked), asked.inputs["seed"])

    def packed(
        self, asked: PlannedStage, teacher: Teacher, batch: Batch, file: str
    ) -> dict[str, torch.Tensor]:
        """The answers to a batch, as a labelling stage keeps them in one of its files."""
        with torch.no_grad(), self.runtime.autocast(asked.inputs["precision"]):
            return self.packing(asked).pack(teacher(batch), batch, file)


def enough(counted: int, seconds: float) -> bool:
    """Whether no more repetitions are needed, `counted` of them after `seconds` in all."""
    return counted >= _MOST or (counted >= _FEWEST and seconds > SECONDS) or (counted >= 1 and seconds > SLOW)


def part(split: Split, rows: int) -> Split:
    """The first rows of a split."""
    truth = None if split.truth is None else part_of(split.truth, 0, rows)
    return replace(split, inputs=part_of(split.inputs, 0, rows), truth=truth)
