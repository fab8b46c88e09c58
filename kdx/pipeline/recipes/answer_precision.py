"""In which precision teachers answer (`pseudo_label.precision`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kdx.pipeline.pace import rows_of_a_part
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.stages import PRETRAIN, PROBE
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.store import Store


def answer_precision(
    store: Store, data: Artifact, teachers: Sequence[Artifact], experiment: Experiment
) -> str:
    """ "fp32" or "bf16". auto: no fewer bits than the teacher has learned with, unless the user left these to
    the machine too; then what answers faster here, by a probe of its own: what trains faster says nothing of
    it. teachers: who answers, in later rounds a student of the round before."""
    if (asked := experiment.pseudo_label["precision"]) != "auto":
        return str(asked)
    learned = list(_learned(teachers, experiment))
    if any(training is None or training.spec["precision"] == "fp32" for _, training in learned):
        return "fp32"
    found = {
        store.run(
            PROBE,
            data=data,
            model=model,
            batch_size=rows_of_a_part(training),
            machine=store.runtime.describe(),
            answers=True,
        ).json("probe.json")["precision"]
        for model, training in learned
        if training is not None
    }
    return "bf16" if found == {"bf16"} else "fp32"


def _learned(
    teachers: Sequence[Artifact], experiment: Experiment
) -> Iterator[tuple[Component, Component | None]]:
    """The network and the training of each that answers with torch; of an assistant it is taken to answer as
    the student does. None: weights that came in a file."""
    if any(teacher.stage != PRETRAIN.name for teacher in teachers):
        yield experiment.student, experiment.student_train
        return
    for teacher in experiment.teachers:
        if not teacher.fitted:
            yield teacher.model, teacher.training
