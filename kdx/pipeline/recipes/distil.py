"""The default journey: a teacher is trained, answers, and a student learns from its answers."""

from __future__ import annotations

from typing import Any

from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Recipe
from kdx.pipeline.recipes.steps import (
    ToAnswer,
    ask_teacher,
    asks_live,
    best_round,
    round_name,
    rows_looked_at,
    student_alone,
    student_inputs,
    train_controls,
    train_teacher,
    views_to_answer,
    waited,
)
from kdx.pipeline.scores import metric_of
from kdx.pipeline.stages import CHOOSE, TRAIN
from kdx.store.artifact import Artifact
from kdx.store.stage import subseed
from kdx.store.store import Store


class Distil(Recipe):
    """The default journey: teacher-pretrain, pseudo-label, baseline-train, gate, student-train. In further
    rounds the student is the teacher; the best one counts."""

    def run(self, store: Store, experiment: Experiment) -> None:
        data, teachers = train_teacher(store, experiment)
        metric = metric_of(data)
        views, inputs = views_to_answer(data, experiment), student_inputs(store, data, experiment)
        live, asked = asks_live(experiment, views), ToAnswer(looked_at=rows_looked_at(data, experiment))
        students: list[Artifact] = []
        lessons: list[dict[str, Any]] = []
        for number in range(1, experiment.rounds + 1):
            answers = ask_teacher(
                store,
                data,
                teachers,
                experiment,
                views,
                name=round_name("pseudo-label", number, experiment),
                which=asked,
            )
            if number == 1:
                student_alone(store, experiment, inputs, answers)
            rows = (
                store.run(
                    CHOOSE,
                    name=round_name("choose", number, experiment),
                    data=data,
                    answers=answers,
                    rule=experiment.select,
                    seed=subseed(experiment.seed, "choose", number),
                )
                if experiment.select
                else None
            )
            lesson = {
                **inputs,
                "answers": answers,
                "teachers": teachers if live else [],
                "rows": rows,
                "view": experiment.pseudo_label["view"],
                "networks": [] if live else teachers,
                "loss": experiment.loss,
                "init": teachers[0] if experiment.student_init == "previous" and number > 1 else None,
            }
            students.append(store.run(TRAIN, name=round_name("student-train", number, experiment), **lesson))
            teachers = students[-1:]
            lessons.append(lesson)
            if waited(students, metric) >= (experiment.round_patience or experiment.rounds):
                break
        if experiment.rounds > 1:  # the best round under the student's own name: it is in the store by now
            store.run(TRAIN, name="student-train", **lessons[best_round(students, metric)])
        train_controls(store, experiment, inputs)
