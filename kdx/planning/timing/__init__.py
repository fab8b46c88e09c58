"""Timed rehearsals: a few real steps of the stages that a plan misses, on the real device, in a scratch
folder.

A rehearsal is the stage itself with most of its repetitions left out: the networks, batches, augmentation,
loss and optimiser are those of the run. Each leaves in scratch what the rehearsals after it read: a network
with the weights it begins with, files of answers of the true size.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdx.core import shortage
from kdx.core.errors import Caution
from kdx.pipeline.stages import AUDIT, CHOOSE, EVALUATE, GATE, LABEL, PREPARE, PRETRAIN, REVEAL, TRAIN
from kdx.pipeline.stages.files import open_split
from kdx.planning.dry_run import Kinds, PlannedStage
from kdx.planning.timing.bench import Bench, Rehearsed
from kdx.planning.timing.labelling import label
from kdx.planning.timing.others import evaluate, lay_data, look_back, time_choose, time_gate
from kdx.planning.timing.training import train
from kdx.store.artifact import Artifact
from kdx.tasks import pseudo_labels
from kdx.training.memory import Peak
from kdx.training.predict import predict
from kdx.training.runtime import Runtime

QUICK = 5.0
"""Seconds that measuring a teacher may take."""
REHEARSE = {
    PREPARE: lay_data,
    REVEAL: lay_data,
    PRETRAIN: train,
    TRAIN: train,
    LABEL: label,
    GATE: time_gate,
    CHOOSE: time_choose,
    AUDIT: look_back,
    EVALUATE: evaluate,
}


class Rehearsals:
    """One for each kind of stage, made when it is asked for. steps: of all runs, by key. tell: hears what is
    rehearsed.
    """

    def __init__(
        self,
        steps: Mapping[str, PlannedStage],
        kinds: Kinds,
        scratch: Path,
        runtime: Runtime,
        tell: Callable[[str], None],
    ):
        self.steps, self.kinds, self.scratch, self.tell = steps, kinds, scratch, tell
        self.found: dict[str, Rehearsed] = {}
        self.standing: dict[str, Artifact] = {}
        self.examples: dict[str, PlannedStage] = {}
        self.bench = Bench(runtime, steps, self.real)
        self.peak = Peak(runtime.device)
        self.loading = self.bench.timed(self.load)
        """Seconds for libraries that the first stages of a process load, and no later ones."""

    def load(self) -> None:
        torch.optim.AdamW(
            [torch.nn.Parameter(torch.zeros(1, device=self.bench.runtime.device))], 0.1, fused=True
        )
        if any(step.stage == AUDIT for step in self.steps.values() if not step.stored):
            nothing = np.zeros((20, 1))
            pseudo_labels.domain_gap(nothing, nothing, 0)

    def of(self, step: PlannedStage) -> Rehearsed:
        kind = self.kinds.of(step)
        if kind in self.found:
            return self.found[kind]
        inputs = self.real(step.inputs)  # rehearses what it reads first
        self.tell(step.name)
        folder = self.scratch / "rehearsed" / str(len(self.standing))
        folder.mkdir(parents=True)
        self.peak.begin()
        with (
            warnings.catch_warnings(),
            shortage.noticed(f"{step.name} on {self.bench.runtime.device}", step.stage.lower),
        ):
            # what stands in for an artifact may be worth one, and the run will tell its own
            warnings.simplefilter("ignore", Caution)
            found = REHEARSE[step.stage](self.bench, step, inputs, folder)
        found.memory = self.peak.bytes()
        found.black |= any(self.of(upstream).black for upstream in self.missing(step.inputs))
        self.found[kind], self.standing[kind], self.examples[kind] = (
            found,
            Artifact(step.stage.name, step.key, folder),
            step,
        )
        return found

    def example(self, step: PlannedStage) -> PlannedStage:
        """The one that was rehearsed for all of its kind, of another run maybe."""
        self.of(step)
        return self.examples[self.kinds.of(step)]

    def real(self, value: Any) -> Any:
        """Inputs, or an artifact, with what stands in for what is missing."""
        if isinstance(value, Artifact):
            step = self.steps[value.key]
            if step.stored:
                return value
            self.of(step)
            return self.standing[self.kinds.of(step)]
        if isinstance(value, Mapping):
            return {k: self.real(v) for k, v in value.items()}
        return [self.real(v) for v in value] if isinstance(value, list | tuple) else value

    def missing(self, value: Any) -> Iterator[PlannedStage]:
        """The stages behind the artifacts of some inputs that are not in the store."""
        if isinstance(value, Artifact) and not self.steps[value.key].stored:
            yield self.steps[value.key]
        elif isinstance(value, Mapping | list | tuple):
            for inner in value.values() if isinstance(value, Mapping) else value:
                yield from self.missing(inner)

    def accuracy(self, teacher: PlannedStage) -> float | None:
        """Of weights that are there, on validation; None where that takes long, or there is no such split."""
        validation = open_split(self.real(teacher.inputs["data"]), "validation", self.bench.runtime)
        if validation is None or any(self.of(data).black for data in self.missing(teacher.inputs["data"])):
            return None
        network = self.bench.network(self.real(teacher.artifact))
        if self.bench.forward(network, validation) * len(validation) > QUICK:
            return None
        return float(
            (predict(network, validation, self.bench.runtime).argmax(1) == validation.labels).double().mean()
        )
