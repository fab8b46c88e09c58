"""Answers are bought over rounds: a rule chooses by the student so far, the teacher answers."""

from __future__ import annotations

from typing import Any

from kdx.core.errors import UserError
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Recipe
from kdx.pipeline.recipes.steps import (
    ask_teacher,
    student_alone,
    student_inputs,
    train_controls,
    train_teacher,
)
from kdx.pipeline.stages import CHOOSE, TRAIN
from kdx.store.store import Store, subseed
from kdx.training.length import by_round, to_buy


class Active(Recipe):
    """Buys the teacher's answers for `budget` rows of the pool, over rounds: the rule chooses by the student
    so far, the teacher answers.

    The last round counts, as it has learned from all that was bought: also where an earlier one was better on
    validation.
    """

    buys = True
    counts = "last"

    def run(self, store: Store, plan: Experiment) -> None:
        data, teacher = train_teacher(store, plan)
        inputs = student_inputs(store, data, plan)
        # validation only: how often the teacher errs
        empty = ask_teacher(store, data, teacher, plan, {}, name="pseudo-label-0", pool=False)
        student_alone(store, plan, inputs, empty)
        made = store.run(TRAIN, name="student-train-0", **inputs, loss=plan.teacher_loss)
        rows = answers = None
        lesson: dict[str, Any] = {}
        if plan.budget is None:
            raise UserError("recipe=active gets how many answers it buys: set budget=200, say")
        total = to_buy(plan.budget, data.json("data.json")["counts"]["unlabelled"])
        for number, count in enumerate(by_round(total, plan.rounds), 1):
            rows = store.run(
                CHOOSE,
                name=f"choose-{number}",
                data=data,
                answers=empty,
                rule=plan.select,
                student=made,
                earlier=rows,
                count=count,
                seed=subseed(plan.seed, "choose", number),
            )
            answers = ask_teacher(
                store,
                data,
                teacher,
                plan,
                {"unlabelled": 1, "labelled": 1},
                name=f"pseudo-label-{number}",
                rows=rows,
            )
            lesson = {
                **inputs,
                "answers": answers,
                "rows": rows,
                "view": "clean",
                "loss": plan.loss,
                "networks": [teacher],
                "init": made if plan.student_init == "previous" else None,
            }
            made = store.run(TRAIN, name=f"student-train-{number}", **lesson)
        store.run(TRAIN, name="student-train", **lesson)
        train_controls(store, plan, inputs)
