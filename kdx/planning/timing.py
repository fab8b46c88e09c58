"""Timed rehearsals: a few real steps of the stages that a plan misses, on the real device, in a scratch
folder.

A rehearsal is the stage itself with most of its repetitions left out, as the stage says (Foretelling). Each
leaves in scratch what the rehearsals after it read: a network with the weights it begins with, files of
answers of the true size.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kdx.core import shortage
from kdx.core.errors import Caution
from kdx.pipeline.foretelling import PlannedStage, Rehearsed, foretelling_of
from kdx.pipeline.foretelling.rehearsal.bench import Bench
from kdx.pipeline.pace import ThreadsOfStages
from kdx.planning.dry_run import Kinds
from kdx.store.artifact import Artifact
from kdx.training.memory import Peak
from kdx.training.runtime import Runtime


class Rehearsals:
    """One for each kind of stage, made when it is asked for. steps: of all runs, by key. tell: hears what is
    rehearsed.
    """

    def __init__(
        self,
        steps: Mapping[str, PlannedStage],
        kinds: Kinds,
        scratch: Path,
        asked: Runtime,
        tell: Callable[[str], None],
    ):
        self.steps, self.kinds, self.scratch, self.tell = steps, kinds, scratch, tell
        self.found: dict[str, Rehearsed] = {}
        self.standing: dict[str, Artifact] = {}
        self.examples: dict[str, PlannedStage] = {}
        self.bench = Bench(asked.settle(), steps, self.real, ThreadsOfStages(asked))
        self.peak = Peak(self.bench.runtime.device)
        self.loading = self.bench.timed(self.load)
        """Seconds for libraries that the first stages of a process load, and no later ones."""

    def load(self) -> None:
        for stage in dict.fromkeys(step.stage for step in self.steps.values() if not step.stored):
            foretelling_of(stage).load(self.bench)

    def of(self, step: PlannedStage) -> Rehearsed:
        kind = self.kinds.of(step)
        if kind in self.found:
            return self.found[kind]
        inputs = self.real(step.inputs)  # rehearses what it reads first
        self.tell(step.name)
        folder = self.scratch / "rehearsed" / str(len(self.standing))
        folder.mkdir(parents=True)
        found = self.rehearsed(step, inputs, folder)
        self.found[kind], self.standing[kind], self.examples[kind] = (
            found,
            Artifact(step.stage.name, step.key, folder),
            step,
        )
        return found

    def rehearsed(self, step: PlannedStage, inputs: Mapping[str, Any], folder: Path) -> Rehearsed:
        above = [self.of(upstream) for upstream in self.missing(step.inputs)]
        if not all(found.known for found in above):
            return Rehearsed({}, known=False)  # it reads what only a run can make
        self.peak.begin()
        with (
            warnings.catch_warnings(),
            shortage.noticed(f"{step.name} on {self.bench.runtime.device}", step.stage.lower),
        ):
            # what stands in for an artifact may be worth one, and the run will tell its own
            warnings.simplefilter("ignore", Caution)
            found = foretelling_of(step.stage).rehearse(self.bench, step, inputs, folder)
        found.memory = self.peak.bytes() if found.known else None
        found.black |= any(other.black for other in above)
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
