"""The default journey: a teacher is trained, answers, and a student learns from its answers."""

from __future__ import annotations

from typing import Any

from kdx.pipeline.recipes.experiment import Plan, needs
from kdx.pipeline.recipes.steps import (
    alone,
    ask,
    asks_live,
    best_round,
    compare,
    round_name,
    student,
    teach,
    views_to_answer,
    waited,
)
from kdx.pipeline.stages import CHOOSE, TRAIN
from kdx.store.artifact import Artifact
from kdx.store.store import Store, subseed


@needs()
def distil(store: Store, plan: Plan) -> None:
    """The default journey: teacher-pretrain, pseudo-label, baseline-train, gate, student-train. In further
    rounds the student is the teacher; the best one counts."""
    data, judge = teach(store, plan)
    views, pupil = views_to_answer(data, plan), student(store, data, plan)
    live = asks_live(plan, views)
    students: list[Artifact] = []
    lessons: list[dict[str, Any]] = []
    for number in range(1, plan.rounds + 1):
        answers = ask(store, data, judge, plan, views, name=round_name("pseudo-label", number, plan))
        if number == 1:
            alone(store, plan, pupil, answers)
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
            **pupil,
            "answers": answers,
            "teachers": [judge] if live else [],
            "rows": rows,
            "view": plan.pseudo_label["view"],
            "networks": [] if live else [judge],
            "loss": plan.loss,
            "init": judge if plan.student_init == "previous" and number > 1 else None,
        }
        judge = store.run(TRAIN, name=round_name("student-train", number, plan), **lesson)
        students.append(judge)
        lessons.append(lesson)
        if waited(students) >= (plan.round_patience or plan.rounds):
            break
    if plan.rounds > 1:  # the best round under the student's own name: it is in the store by now
        store.run(TRAIN, name="student-train", **lessons[best_round(students)])
    compare(store, plan, pupil)
