"""What fine-tuning a teacher brings the student: the same student once more, of the teacher as it was before,
or of one whose last layer alone has learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kdx.core.roles import control_stage
from kdx.pipeline.controls.control import altered
from kdx.pipeline.recipes.asking import Asking
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.steps import beginning, rows_to_learn
from kdx.pipeline.recipes.teachers import train_member
from kdx.pipeline.stages import BEFORE, LABEL, PRETRAIN, THROUGH, TRAIN
from kdx.store.artifact import Artifact
from kdx.store.store import Store

UNTUNED, PROBED = "untuned_student", "probed_student"
OF_UNTUNED = (UNTUNED, PROBED)
"""Keys of the configuration, and roles."""


def train_of_untuned(store: Store, experiment: Experiment, asking: Asking, inputs: Mapping[str, Any]) -> None:
    """Trains the students of `experiment.untuned`, each as the distilled one."""
    for role in experiment.untuned:
        teacher = store.done[BEFORE.name] if role == UNTUNED else _probed(store, experiment, inputs["data"])
        end = role.partition("_")[0]
        answers = asking.answers(store, inputs["data"], [teacher], f"{LABEL.name}-{end}")
        lesson = {
            **inputs,
            **asking.lesson(answers, [teacher]),
            **rows_to_learn(store, experiment, inputs["data"], answers, 1, f"-{end}"),
            **beginning(experiment, [teacher]),
        }
        store.run(TRAIN, name=control_stage(role), **lesson)


def _probed(store: Store, experiment: Experiment, data: Artifact) -> Artifact:
    """The teacher after linear probing: its last layer learned as long as all of it does in the run."""
    (teacher,) = experiment.teachers
    assert teacher.training is not None
    alone = replace(teacher, training=altered(teacher.training, head_first=1.0))
    before = store.done[f"{THROUGH.name}-{len(teacher.through)}"] if teacher.through else None
    return train_member(store, data, experiment, alone, f"{PRETRAIN.name}-probed", before)
