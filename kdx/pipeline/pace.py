"""How many threads each training of a run gets where `device.threads=auto`: as many as train its network
fastest here, by the stored stage `probe`. Imports no torch unless a stage has to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kdx.pipeline.stages import PRETRAIN, PROBE, THROUGH, TRAIN
from kdx.store.component import Component
from kdx.store.stage import Stage
from kdx.store.store import Store
from kdx.store.work import Listener
from kdx.training.length import total_steps, used
from kdx.training.runtime import Runtime

FEWEST_STEPS = 200
"""A training of fewer is over before its threads matter, and gets all."""
TIE = 1.5
"""Fewer threads that take so much longer at most are taken: what more of them bring to a small network costs
far more of the processor, and when something else is at work there they take ten times as long."""
TRAINED = (PRETRAIN.name, THROUGH.name, TRAIN.name)
"""Stages that train a network by steps."""


class ThreadsOfStages:
    """What the stages of a run are made with, see kdx.store.store.MadeWith. asked: as the user has it."""

    def __init__(self, asked: Runtime):
        self.asked = asked

    def __call__(self, store: Store, stage: Stage, name: str, inputs: Mapping[str, Any]) -> Runtime:
        settled: Runtime = store.runtime.settle()
        store.runtime = replace(settled, threads=self.asked.threads)  # the device is settled once
        most = settled.threads
        if self.asked.threads == "auto" and store.beside and store.beside.busy:
            most = min(int(most), store.beside.leaves)
        threads = self.asked.by_stage.get(name, most)
        if name not in self.asked.by_stage and self.probes(settled):
            if long_training(stage, inputs):
                threads = fewest(step_seconds(store, inputs), int(most)) or most
            elif stage.name != PROBE.name:
                threads = min(int(most), max(trained_with(store), default=int(most)))
        return replace(settled, threads=threads).settle()

    def probes(self, settled: Runtime) -> bool:
        """Whether there is anything to choose: several processes, and accelerators, have it settled."""
        auto = self.asked.threads == "auto"
        return auto and settled.device == "cpu" and settled.gpus == 1 and int(settled.threads) > 1


def trained_with(store: Store) -> list[int]:
    """Threads of the trainings of this run so far: as many are right for what their networks do next."""
    made = (a.manifest.get("made", {}) for a in store.done.values() if a.stage in TRAINED)
    return [found["threads"] for found in made if "threads" in found]


def long_training(stage: Stage, inputs: Mapping[str, Any]) -> bool:
    """Whether a stage is a training by steps that is long enough for the probe."""
    return (
        stage.name in TRAINED
        and isinstance(inputs.get("training"), Component)
        and steps_of(inputs) >= FEWEST_STEPS
    )


def steps_of(inputs: Mapping[str, Any]) -> int:
    """Steps of a training. inputs: of its stage."""
    spec = inputs["training"].spec
    counts = used(inputs["data"].json("data.json")["counts"], spec["rows"])
    return total_steps(spec, sum(counts[split] for split in inputs["epoch"]), "training")


def step_seconds(store: Store, inputs: Mapping[str, Any]) -> dict[int, float]:
    """Threads -> seconds of one step of a training, by the probe. inputs: of its stage. Raises Miss in a
    store in which nothing runs, where they are not known."""
    training, most = inputs["training"], int(store.runtime.settle().threads)
    timed = Store(store.root, store.runtime, Listener(), peek=True) if store.peek else store
    found = timed.run(
        PROBE,
        data=inputs["data"],
        model=inputs["model"],
        batch_size=rows_of_a_part(training),
        machine=store.runtime.describe(),
        threads={"tried": candidates(most), "precision": inputs["precision"]},
    ).json("probe.json")["seconds"]
    parts = training.spec.get("accumulate", 1)
    return {int(threads): parts * seconds for threads, seconds in found.items()}


def rows_of_a_part(training: Component) -> int:
    """Rows that pass through the network together."""
    return -(-training.spec["batch_size"] // training.spec.get("accumulate", 1))


def candidates(most: int) -> list[int]:
    """The powers of two below the most, and the most."""
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


def fewest(seconds: Mapping[int, float], most: int) -> int | None:
    """The fewest threads that are as fast as any, up to `most`; None where none of these was timed."""
    known = {threads: took for threads, took in seconds.items() if threads <= most}
    limit = TIE * min(known.values(), default=0)
    return min((threads for threads, took in known.items() if took <= limit), default=None)
