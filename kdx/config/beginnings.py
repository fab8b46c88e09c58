"""Whether what the student's weights are made of (`init=`) goes with teacher and student, and whether it can
go on with rows where the recipe lets it (`recipe=on_policy`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdx.config.network_names import option_words, teachers_by_node
from kdx.config.trials import MadeUp
from kdx.config.trying import trying
from kdx.config.wire import Order
from kdx.core.beginning import Initialiser
from kdx.core.errors import UserError
from kdx.core.hidden_answers import several_hidden, tells_hidden
from kdx.core.rollouts import RollsOut, cannot_roll_out
from kdx.core.task import Task
from kdx.models.estimator import estimator_in
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import build_recipe
from kdx.pipeline.recipes.written import written_by
from kdx.tasks.answer_formats import distributions
from kdx.tasks.kept import HIDDEN_STATES


def check_init(experiment: Experiment, option: str, built: Mapping[str, Any], errors: list[str]) -> None:
    """option: as it was chosen. built: node -> network, of those that could be built."""
    if not experiment.init:
        return
    with trying(errors, own=experiment.init.target):
        initialiser: Initialiser = experiment.init.build_as(
            Initialiser,
            f"init._target_ '{experiment.init.target}' is no initialiser: a class that inherits from "
            "kdx.core.types.Initialiser",
        )
        if initialiser.of == "round":
            return
        reads = f"init={option} makes the student's weights of the teacher's network"
        if experiment.given:
            raise UserError(f"{reads}, and answers in a file come without one: leave init= out")
        if len(experiment.teachers) > 1:
            raise UserError(
                f"{reads}, and there are {len(experiment.teachers)} of them: choose one teacher, or leave "
                "init= out"
            )
        if any(teacher.class_map for teacher in experiment.teachers):
            raise UserError(
                f"{reads}, and teacher.classes_map says that it has other classes: leave init= out"
            )
        if experiment.student_checkpoint:
            raise UserError(
                f"student.checkpoint and init={option} both say what the student's weights begin with: leave "
                "one of them out"
            )
        teacher, student = built.get("teacher"), built.get("student")
        if teacher is None or student is None:
            return
        if (fitted := estimator_in(teacher)) and not fitted.layered:
            raise UserError(f"{reads}, and teacher={experiment.teacher_name} is fitted at once, no network")
        initialiser.check(student, teacher)


def check_hidden(order: Order, task: Task, built: Mapping[str, Any], errors: list[str]) -> None:
    """Whether one teacher tells its hidden states place by place, where they are stored. built: see
    `check_rolling`."""
    asked, several = order.experiment.pseudo_label, distributions(task)
    if not asked or asked["format"] != HIDDEN_STATES:
        return
    with trying(errors):
        if several is None or several["places"] == 1:
            raise UserError(
                "pseudo_label.format=hidden keeps what the teacher's last layer reads at each place of a "
                f"row, and an answer here is {task.words}: choose another format"
            )
        if (teachers := len(order.experiment.teachers)) > 1:
            raise UserError(several_hidden(teachers))
        if "teacher" in built:
            tells_hidden(built["teacher"], option_words(order)["teacher"])


def check_asked_of_teachers(order: Order, built: Mapping[str, Any], errors: list[str]) -> None:
    """Whether the teachers are what the recipe asks of them. built: see `check_rolling`."""
    if order.recipe is None:
        return
    for role in teachers_by_node(order.experiment):
        if role in built:
            with trying(errors):
                build_recipe(order.recipe).check_teacher(built[role])


def check_rolling(order: Order, made: MadeUp, built: Mapping[str, Any], errors: list[str]) -> None:
    """built: node -> network, of those that could be built."""
    if order.recipe is None or not order.experiment.pseudo_label:
        return
    wanted = {
        "student": build_recipe(order.recipe).rolling,
        "teacher": written_by(order.experiment.pseudo_label),
    }
    for role, rolling in wanted.items():
        with trying(errors):
            if rolling is None or role not in built:
                continue
            if not isinstance(built[role], RollsOut):
                raise cannot_roll_out(option_words(order)[role], role)
            built[role].check_rolling(made.data.example[""][0][0], rolling)
