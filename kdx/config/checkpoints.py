"""The files of weights that networks begin with, read and held against them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdx.config.network_names import called_in_words, teachers_by_node
from kdx.config.untuned import check_head
from kdx.core import checks
from kdx.data.raw import Description
from kdx.models import checkpoint
from kdx.models.weights import left_out_head, load_weights
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.teachers import class_order_warnings


def beginnings(experiment: Experiment) -> dict[str, Any]:
    """role -> the checkpoint that it begins with, or None."""
    teachers = teachers_by_node(experiment)
    found: dict[str, Any] = {role: teacher.checkpoint for role, teacher in teachers.items()}
    return {**found, "student": experiment.student_checkpoint}


def check_checkpoints(
    experiment: Experiment, about: Description | None, built: Mapping[str, Any], errors: list[str]
) -> None:
    """Whether each checkpoint can be read, and fits its network."""
    teachers = teachers_by_node(experiment)
    for node, given in beginnings(experiment).items():
        if given:
            role = "teacher" if node in teachers else node
            with checks.gather(errors, "" if node == role else f"{called_in_words(node)}: "):
                file, trained = given.file.paths[0], node == "student" or teachers[node].training is not None
                if node in teachers and teachers[node].fitted:
                    name, whole = teachers[node].name, teachers[node].finished
                    how = "lies whole in its file" if whole else "is fitted at once, from nothing"
                    checks.refuse(
                        f"{node}.checkpoint is what a network begins with, and {name} {how}: leave it out"
                    )
                elif about and node in built:
                    if not (node in teachers and teachers[node].class_map):
                        class_order_warnings(role, given, about.classes, trained)
                    notes = load_weights(built[node], file, key=given.key, role=role, new_head=trained)
                    if node in teachers and left_out_head(notes):
                        check_head(experiment, f"{node}.checkpoint")
                else:
                    checkpoint.read_weights_file(file, key=given.key, role=role)
