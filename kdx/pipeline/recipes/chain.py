"""Teacher assistants, one after the other."""

from __future__ import annotations

from typing import Any

from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Recipe
from kdx.pipeline.recipes.steps import (
    ToAnswer,
    ask_teacher,
    asks_live,
    checkpoint_inputs,
    rows_looked_at,
    student_alone,
    student_inputs,
    train_controls,
    train_teacher,
    views_to_answer,
)
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
        data, teachers = train_teacher(store, experiment)
        views, inputs = views_to_answer(data, experiment), student_inputs(store, data, experiment)
        live, asked = asks_live(experiment, views), ToAnswer(looked_at=rows_looked_at(data, experiment))
        lesson: dict[str, Any] = {}
        for number, model in enumerate([*experiment.assistants, experiment.student], 1):
            answers = ask_teacher(
                store,
                data,
                teachers,
                experiment,
                views,
                name=f"pseudo-label-{number}",
                which=asked,
            )
            if number == 1:
                student_alone(store, experiment, inputs, answers)
            begins = checkpoint_inputs(
                experiment.student_checkpoint if number > len(experiment.assistants) else None
            )
            lesson = {
                **inputs,
                "model": model,
                **begins,
                "answers": answers,
                "teachers": teachers if live else [],
                "view": experiment.pseudo_label["view"],
                "networks": [] if live else teachers,
                "loss": experiment.loss,
                "rows": None,
                "init": None,
            }
            teachers = [store.run(TRAIN, name=f"student-train-{number}", **lesson)]
        store.run(TRAIN, name="student-train", **lesson)
        train_controls(store, experiment, inputs)
