"""The default journey: a teacher is trained, answers, and a student learns from its answers."""

from __future__ import annotations

from typing import Any

from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Recipe
from kdx.pipeline.recipes.steps import (
    ask_teacher,
    asks_live,
    best_round,
    round_name,
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
from kdx.store.store import Store, subseed


class Distil(Recipe):
    """The default journey: teacher-pretrain, pseudo-label, baseline-train, gate, student-train. In further
    rounds the student is the teacher; the best one counts."""

    def run(self, store: Store, plan: Experiment) -> None:
        data, teacher = train_teacher(store, plan)
        metric = metric_of(data)
        views, inputs = views_to_answer(data, plan), student_inputs(store, data, plan)
        live = asks_live(plan, views)
        students: list[Artifact] = []
        lessons: list[dict[str, Any]] = []
        for number in range(1, plan.rounds + 1):
            answers = ask_teacher(
                store, data, teacher, plan, views, name=round_name("pseudo-label", number, plan)
            )
            if number == 1:
                student_alone(store, plan, inputs, answers)
            rows = (
                store.run(
                    CHOOSE,
                    name=round_name("choose", number, plan),
                    data=data,
                    answers=answers,
                    rule=plan.select,
                    seed=subseed(plan.seed, "choose", number),
                )
                if plan.select
                else None
            )
            lesson = {
                **inputs,
                "answers": answers,
                "teachers": [teacher] if live else [],
                "rows": rows,
                "view": plan.pseudo_label["view"],
                "networks": [] if live else [teacher],
                "loss": plan.loss,
                "init": teacher if plan.student_init == "previous" and number > 1 else None,
            }
            teacher = store.run(TRAIN, name=round_name("student-train", number, plan), **lesson)
            students.append(teacher)
            lessons.append(lesson)
            if waited(students, metric) >= (plan.round_patience or plan.rounds):
                break
        if plan.rounds > 1:  # the best round under the student's own name: it is in the store by now
            store.run(TRAIN, name="student-train", **lessons[best_round(students, metric)])
        train_controls(store, plan, inputs)
