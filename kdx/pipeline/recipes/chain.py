"""Teacher assistants, one after the other."""

from __future__ import annotations

from typing import Any

from kdx.pipeline.recipes.asking import how_to_ask
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Recipe
from kdx.pipeline.recipes.steps import student_alone, taught_by, train_controls
from kdx.pipeline.recipes.teachers import checkpoint_inputs
from kdx.pipeline.stages import TRAIN
from kdx.store.store import Store


class Chain(Recipe):
    """Teacher assistants (Mirzadeh et al. 2020, arXiv 1902.03393): the teacher teaches the first, each the
    next one, and the last the student.

    All of them train as the student does, with its loss; the control is the run without assistants.
    """

    assistants = True
    counts = "chain"

    def run(self, store: Store, experiment: Experiment) -> None:
        count = len(experiment.assistants) + 1
        data, teachers, inputs = taught_by(store, experiment, students=count)
        asking = how_to_ask(data, experiment)
        lesson: dict[str, Any] = {}
        for number, model in enumerate([*experiment.assistants, experiment.student], 1):
            answers = asking.answers(store, data, teachers, f"pseudo-label-{number}")
            if number == 1:
                student_alone(store, experiment, inputs, answers)
            begins = checkpoint_inputs(
                experiment.student_checkpoint if number > len(experiment.assistants) else None
            )
            lesson = {
                **inputs,
                "model": model,
                **begins,
                **asking.lesson(answers, teachers),
                "rows": None,
                "init": None,
            }
            teachers = [store.run(TRAIN, name=f"student-train-{number}", **lesson)]
        store.run(TRAIN, name="student-train", **lesson)
        train_controls(store, experiment, inputs)
