"""Answers are bought over rounds: the student so far judges, a rule chooses, the teacher answers."""

from __future__ import annotations

from typing import Any

from kdx.core.errors import Fault
from kdx.pipeline.recipes.experiment import Plan, needs
from kdx.pipeline.recipes.steps import alone, ask, compare, student, teach
from kdx.pipeline.stages import CHOOSE, TRAIN
from kdx.store.store import Store, subseed
from kdx.training.length import by_round, to_buy


@needs(buys=True, counts="last")
def active(store: Store, plan: Plan) -> None:
    """Buys the teacher's answers for `budget` rows of the pool, over rounds: the student so far judges, the
    rule chooses, the teacher answers.

    The last round counts, as it has learned from all that was bought: also where an earlier one was better on
    validation.
    """
    data, judge = teach(store, plan)
    pupil = student(store, data, plan)
    # validation only: how often the teacher errs
    empty = ask(store, data, judge, plan, {}, name="pseudo-label-0", pool=False)
    alone(store, plan, pupil, empty)
    made = store.run(TRAIN, name="student-train-0", **pupil, loss=plan.teacher_loss)
    rows = answers = None
    lesson: dict[str, Any] = {}
    if plan.budget is None:
        raise Fault("recipe=active is told how many answers it buys: set budget=200, say")
    total = to_buy(plan.budget, data.json("data.json")["counts"]["unlabelled"])
    for number, count in enumerate(by_round(total, plan.rounds), 1):
        rows = store.run(
            CHOOSE,
            name=f"choose-{number}",
            data=data,
            answers=empty,
            rule=plan.select,
            pupil=made,
            earlier=rows,
            count=count,
            seed=subseed(plan.seed, "choose", number),
        )
        answers = ask(
            store,
            data,
            judge,
            plan,
            {"unlabelled": 1, "labelled": 1},
            name=f"pseudo-label-{number}",
            rows=rows,
        )
        lesson = {
            **pupil,
            "answers": answers,
            "rows": rows,
            "view": "clean",
            "loss": plan.loss,
            "networks": [judge],
            "init": made if plan.student_init == "previous" else None,
        }
        made = store.run(TRAIN, name=f"student-train-{number}", **lesson)
    store.run(TRAIN, name="student-train", **lesson)
    compare(store, plan, pupil)
