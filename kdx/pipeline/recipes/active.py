"""Answers are bought over rounds: a rule chooses by the student so far, the teacher answers."""

from __future__ import annotations

from typing import Any

from kdx.core.errors import UserError
from kdx.pipeline.recipes.asking import ToAnswer, ask_teacher
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Recipe
from kdx.pipeline.recipes.steps import beginning, student_alone, taught_by, train_controls
from kdx.pipeline.stages import CHOOSE, TRAIN
from kdx.store.stage import subseed
from kdx.store.store import Store
from kdx.training.length import by_round, to_buy


class Active(Recipe):
    """Buys the teacher's answers for `budget` rows of the pool, over rounds: the rule chooses by the student
    so far, the teacher answers.

    The last round counts, as it has learned from all that was bought: also where an earlier one was better on
    validation.
    """

    buys = True
    counts = "last"

    def run(self, store: Store, experiment: Experiment) -> None:
        # the first student is the student alone
        data, teachers, inputs = taught_by(store, experiment, students=0)
        # validation only: how often the teacher errs
        empty = ask_teacher(
            store, data, teachers, experiment, {}, name="pseudo-label-0", which=ToAnswer(pool=False)
        )
        student_alone(store, experiment, inputs, empty)
        made = store.run(TRAIN, name="student-train-0", **inputs, loss=experiment.teacher_loss)
        rows = answers = None
        lesson: dict[str, Any] = {}
        if experiment.budget is None:
            raise UserError("recipe=active gets how many answers it buys: set budget=200, say")
        total = to_buy(experiment.budget, data.json("data.json")["counts"]["unlabelled"])
        for number, count in enumerate(by_round(total, experiment.rounds), 1):
            rows = store.run(
                CHOOSE,
                name=f"choose-{number}",
                data=data,
                answers=empty,
                rule=experiment.select,
                student=made,
                earlier=rows,
                count=count,
                seed=subseed(experiment.seed, "choose", number),
            )
            answers = ask_teacher(
                store,
                data,
                teachers,
                experiment,
                {"unlabelled": 1, "labelled": 1},
                name=f"pseudo-label-{number}",
                which=ToAnswer(rows=rows),
            )
            lesson = {
                **inputs,
                "answers": answers,
                "rows": rows,
                "view": "clean",
                "loss": experiment.loss,
                "networks": teachers,
                **beginning(experiment, teachers, made),
            }
            made = store.run(TRAIN, name=f"student-train-{number}", **lesson)
        store.run(TRAIN, name="student-train", **lesson)
        train_controls(store, experiment, inputs)
