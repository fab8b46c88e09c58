"""Distillation without data: the student sees only what its teacher has made of noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from kdx.core.checks import integer
from kdx.core.inversion import Inversion
from kdx.pipeline.recipes.asking import how_to_ask
from kdx.pipeline.recipes.checks import needs_a_pool
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Recipe, Request
from kdx.pipeline.recipes.steps import student_alone, taught_by, train_controls
from kdx.pipeline.stages import INVERT, TRAIN
from kdx.store.stage import subseed
from kdx.store.store import Store


class DataFree(Recipe):
    """Experimental. DeepInversion (Yin et al. 2020, arXiv 1912.08795): rows are made of noise so that the
    teacher names a class and its batch-norm layers see the statistics that they have kept; the student learns
    the teacher's answers to them, and no row of the data set. The student alone, which learns the labels, is
    what data would be worth.

    rows: how many are made, of all classes alike. steps, lr, batch_norm, smoothness: see
    kdx.methods.inversion.Inversion.
    """

    audits = False
    reads_pool = False

    def __init__(self, *, rows: int, steps: int, lr: float, batch_norm: float, smoothness: float):
        self.rows = integer("recipe.rows", rows, low=2)
        self.how = Inversion(steps, lr, batch_norm, smoothness)

    def run(self, store: Store, experiment: Experiment) -> None:
        data, teachers, inputs = taught_by(store, experiment)
        made = store.run(
            INVERT,
            data=data,
            teacher=teachers[0],
            rows=self.rows,
            how=asdict(self.how),
            seed=subseed(experiment.seed, "invert"),
        )
        asking = how_to_ask(made, experiment)
        answers = asking.answers(store, made, teachers, "pseudo-label")
        student_alone(store, experiment, inputs, answers)
        store.run(
            TRAIN,
            name="student-train",
            **{**inputs, "data": made, **asking.lesson(answers, teachers)},
            init=None,
        )
        train_controls(store, experiment, inputs)

    def errors(self, asked: Request) -> Iterator[str]:
        yield from super().errors(asked)
        experiment = asked.experiment
        made = ", as the student sees only rows that the teacher made, with the classes they were made for"
        yield from needs_a_pool("data_free", experiment, "kd", made)
        if asked.classes is not None and not asked.classes:
            yield (
                "recipe=data_free makes rows of noise that the teacher gives one class each, and an answer "
                "of this data set is no class: leave recipe= out"
            )
        if len(experiment.teachers) != 1 or experiment.given:
            yield "recipe=data_free makes rows by one network: name one teacher"
        if experiment.rounds != 1 or experiment.select or experiment.init:
            yield (
                "recipe=data_free teaches once, and by all rows that are made: leave rounds=, select= and "
                "init= out"
            )

    def check_teacher(self, network: Any) -> None:
        from kdx.methods.inversion import norm_layers

        norm_layers(network)

    def protocol(self, experiment: Experiment) -> list[str]:
        return [f"data: the student sees {self.rows:,} rows that the teacher made of noise, and no other"]
