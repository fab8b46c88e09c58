"""Teacher assistants, one after the other."""

from __future__ import annotations

from typing import Any

from kdx.pipeline.recipes.experiment import Plan, needs
from kdx.pipeline.recipes.steps import alone, ask, asks_live, begin, compare, student, teach, views_to_answer
from kdx.pipeline.stages import TRAIN
from kdx.store.store import Store


@needs(assistants=True, counts="chain")
def chain(store: Store, plan: Plan) -> None:
    """Teacher assistants (Mirzadeh et al. 2020, arXiv 1902.03393): the teacher teaches the first, each the
    next one, and the last the student.

    All of them train as the student does, with its loss; the control is the run without assistants.
    """
    data, judge = teach(store, plan)
    views, pupil = views_to_answer(data, plan), student(store, data, plan)
    live = asks_live(plan, views)
    lesson: dict[str, Any] = {}
    for number, model in enumerate([*plan.assistants, plan.student], 1):
        answers = ask(store, data, judge, plan, views, name=f"pseudo-label-{number}")
        if number == 1:
            alone(store, plan, pupil, answers)
        begins = begin(plan.student_checkpoint if number > len(plan.assistants) else None)
        lesson = {
            **pupil,
            "model": model,
            **begins,
            "answers": answers,
            "teachers": [judge] if live else [],
            "view": plan.pseudo_label["view"],
            "networks": [] if live else [judge],
            "loss": plan.loss,
            "rows": None,
            "init": None,
        }
        judge = store.run(TRAIN, name=f"student-train-{number}", **lesson)
    store.run(TRAIN, name="student-train", **lesson)
    compare(store, plan, pupil)
