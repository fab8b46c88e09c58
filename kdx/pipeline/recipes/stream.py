"""Rows in the order of time, each once: a network is tested on what comes next, and then learns it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from kdx.core.checks import choice, integer, number
from kdx.core.roles import Role, control_stage
from kdx.pipeline.controls.control import altered
from kdx.pipeline.recipes.checks import needs_a_pool, taught_splits, too_few_to_share
from kdx.pipeline.recipes.data import prepare_data
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Recipe, Request
from kdx.pipeline.recipes.steps import student_inputs
from kdx.pipeline.recipes.teachers import precise, train_member
from kdx.pipeline.stages import PREQUENTIAL, PRETRAIN, SESSION, TRAIN
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.stage import subseed
from kdx.store.store import Store

_TEACHERS = ("moving", "kept", "both")
_ONCE = "recipe=stream passes over each chunk once, at one rate: leave it out"


class TestThenTrain(Recipe):
    """Test-then-train over chunks of rows in the order of the data set (prequential evaluation by chunks:
    Gama, Sebastiao and Rodrigues 2013, doi 10.1007/s10994-012-5320-9).

    chunks: how many. history: of them those that the teacher has learned before (teacher-pretrain), and no
    student sees. Over the others student and student alone go with the rows, in their order and each once.
    teacher: "kept", it stands, and grows old; "moving", it goes along, at `rate` times the student's learning
    rate, one chunk before the student learns that; "both", the mean of the two. Each chunk begins with the
    weights of the one before, and with a new optimiser at a constant rate.
    """

    stages = (SESSION, PREQUENTIAL)
    in_rounds = False
    roles: ClassVar[Mapping[str, Role]] = {
        "moving": Role(control_stage("moving"), "teacher that goes along", "goes along", "#7f6f9e")
    }

    as_teacher = ("moving",)
    reads_pool = False

    def __init__(self, *, chunks: int, history: int, teacher: str, rate: float):
        self.chunks = integer("recipe.chunks", chunks, low=3)
        self.history = integer("recipe.history", history, low=1)
        self.whose = choice("recipe.teacher", teacher, _TEACHERS)
        self.rate = number("recipe.rate", rate, low=0, open_low=True)

    def alone(self, experiment: Experiment) -> str:
        return "the labels only, over the same chunks"

    def run(self, store: Store, experiment: Experiment) -> None:
        data = prepare_data(store, experiment)
        inputs = student_inputs(store, data, experiment)
        inputs |= {"epoch": ["labelled"], "training": passed_once(experiment.student_train, 1)}
        old = train_member(
            store, self._chunk(store, data, self.history), experiment, experiment.teachers[0], PRETRAIN.name
        )
        made: dict[str, list[Artifact]] = {"teacher": [], "moving": [], "baseline": [], "student": []}
        for chunk in range(self.history + 1, self.chunks + 1):
            lesson = {**inputs, "data": self._chunk(store, data, chunk)}
            made["teacher"].append(old)
            if self.whose != "kept":
                made["moving"].append(
                    self._go_along(store, experiment, lesson, [old, *made["moving"]], chunk)
                )
            if "baseline" in experiment.controls:
                alone = {**lesson, "loss": experiment.controls["baseline"].loss}
                made["baseline"].append(self._learn(store, alone, made["baseline"], "baseline", chunk))
            asked = [made[role][-1] for role in self._asked()]
            taught = {**lesson, "loss": experiment.loss, "teachers": asked}
            made["student"].append(self._learn(store, taught, made["student"], "student", chunk))
        arms = {role: networks for role, networks in made.items() if networks}
        store.run(PREQUENTIAL, data=data, arms=arms, sessions=self._described(), first=self.history + 1)

    def _asked(self) -> list[str]:
        return {"kept": ["teacher"], "moving": ["moving"], "both": ["teacher", "moving"]}[self.whose]

    def _described(self) -> dict[str, Any]:
        return {"by": "time", "count": self.chunks}

    def _chunk(self, store: Store, data: Artifact, number: int) -> Artifact:
        """The rows of one chunk; the last of the history holds all of it."""
        return store.run(
            SESSION,
            name=f"{SESSION.name}-{number}",
            data=data,
            sessions={**self._described(), **({"in_time": True} if number > self.history else {})},
            number=number,
            memory=0,
            joint=number == self.history,
            seed=0,
        )

    def _learn(
        self, store: Store, lesson: Mapping[str, Any], before: list[Artifact], role: str, chunk: int
    ) -> Artifact:
        """The network of a role after one chunk more."""
        trained = control_stage(role)
        name = f"{trained}-{chunk}" if chunk < self.chunks else trained
        begun = {"init": before[-1], "checkpoint": None, "checkpoint_key": None} if before else {}
        return store.run(TRAIN, name=name, **{**lesson, **begun})

    def _go_along(
        self,
        store: Store,
        experiment: Experiment,
        lesson: Mapping[str, Any],
        before: list[Artifact],
        chunk: int,
    ) -> Artifact:
        model, training = experiment.teachers[0].model, passed_once(experiment.student_train, self.rate)
        own = {
            "model": model,
            "loss": experiment.teacher_loss,
            "training": training,
            "precision": precise(store, lesson["data"], model, training),
            "seed": subseed(experiment.seed, "teacher", 0),
        }
        return self._learn(store, {**lesson, **own}, before, "moving", chunk)

    def errors(self, asked: Request) -> Iterator[str]:
        yield from super().errors(asked)
        experiment, choices = asked.experiment, asked.config["choices"]
        if experiment.loss and "labelled" not in taught_splits(experiment):
            yield (
                "recipe=stream lets a teacher answer the rows that come, and "
                f"loss={choices['loss']} asks none about labelled rows: choose another loss, such as kd"
            )
        else:
            yield from needs_a_pool("stream", experiment, "kd")
        if self.history > self.chunks - 3:  # the first chunk after the history is learned before any test
            yield (
                f"recipe.history={self.history} of recipe.chunks={self.chunks} chunks leaves fewer than two "
                f"to be tested on: set recipe.history={self.chunks - 3} at most"
            )
        if experiment.rounds != 1 or experiment.select or experiment.init or experiment.moving:
            yield (
                "recipe=stream passes over each row once: leave rounds=, select=, init= and teacher.update= "
                "out, and set recipe.teacher"
            )
        if further := sorted(experiment.controls.keys() - {"baseline"}):
            yield f"recipe=stream has the student alone beside it: leave {' and '.join(further)} out"
        if len(experiment.teachers) > 1:
            yield "recipe=stream has one teacher: leave teachers= and teacher.members= out"
        elif self.whose != "kept" and experiment.teachers and experiment.teachers[0].fitted:
            yield (
                f"recipe.teacher={self.whose} trains the teacher by steps, and "
                f"teacher={choices['teacher']} is fitted at once: set recipe.teacher=kept, or choose a "
                "network"
            )
        if experiment.student_train.spec.get("accumulate", 1) != 1:
            yield (
                "recipe=stream takes each batch as it comes, and the last of a chunk may be small: leave "
                "student_train.accumulate out, and lower student_train.batch_size"
            )
        yield from too_few_to_share("recipe.chunks", self.chunks, asked.rows.get("labelled"), "chunk")

    def idle(self, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from super().idle(config)
        for key in ("epochs", "steps", "schedule", "warmup", "patience", "target"):
            yield f"student_train.{key}", _ONCE
        if self.whose == "kept":
            yield "recipe.rate", "recipe.teacher=kept does not go along: leave one of them out"

    def protocol(self, experiment: Experiment) -> list[str]:
        return [
            f"stream: {self.chunks} chunks of rows in order, the first {self.history} the teacher's alone; "
            f"each is tested on before it is learned, once (recipe.teacher={self.whose})"
        ]


def passed_once(training: Component, rate: float) -> Component:
    """One pass at a constant rate, `rate` times that which is set."""
    lr = training.spec["lr"] * rate
    return altered(
        training, length="1 epochs", schedule="constant", warmup=0, lr=lr, patience=None, target=None
    )
