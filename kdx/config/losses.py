"""The losses of an experiment, tried on made-up rows with the networks that were built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from kdx.config.kinds import trainings_of
from kdx.config.network_names import called_in_words, teachers_by_node
from kdx.config.trials import MadeUp, check_method, fits_stand_in, mixes, try_loss, try_moving
from kdx.config.trying import trying
from kdx.core import checks
from kdx.core.errors import UserError, WrongStudent, lacks_answer
from kdx.core.task import Task
from kdx.core.types import Batch, Features, Frozen, Objective, Teacher
from kdx.data.raw import Description
from kdx.methods.teachers import live_teacher
from kdx.models.estimator import estimator_in
from kdx.pipeline.controls import CONTROLS
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.stages.parts import reads_networks
from kdx.store.component import Component, terms_of
from kdx.store.declared import declared
from kdx.training.length import shares
from kdx.training.loop import check_accumulate


def check_teacher_tells(
    experiment: Experiment, task: Task, built: Mapping[str, Any], errors: list[str]
) -> None:
    """Whether the teacher, or each member of an ensemble, tells all that the loss reads of it."""
    roles = [role for role in teachers_by_node(experiment) if role in built]
    if experiment.loss is None or not roles:
        return
    # what is wrong with the loss itself is reported elsewhere
    with trying([], own=experiment.loss.target):
        loss = experiment.loss.resolve()
        for name in loss.needs_answers if isinstance(task, loss.needs_task) else ():
            for role in roles:
                if (fitted := estimator_in(built[role])) and name in fitted.tells:
                    continue
                who = "this teacher" if role == "teacher" else called_in_words(role)
                errors.append(str(lacks_answer(experiment.loss_called(experiment.loss), name, who)))
            if experiment.rounds > 1:
                errors.append(
                    f"rounds={experiment.rounds} let the student teach, which tells no {name} of its "
                    f"answers, and {experiment.loss_called(experiment.loss)} weighs by it: leave "
                    "rounds= out, or set loss=kd"
                )


def check_losses(
    experiment: Experiment,
    made: MadeUp,
    built: Mapping[str, Any],
    streams: Mapping[str, Batch] | None,
    errors: list[str],
    rows: Mapping[str, int],
    described: bool,
) -> dict[str, str]:
    """Tries the loss of every training. streams: made-up rows of each, None: losses are built only. rows: of
    each split, as far as they are known. described: as for `build_networks`. Returns: see `check_networks`.
    """
    idle: dict[str, str] = {}
    student = built.get("student") or torch.nn.Identity()
    taught = [built[role] for role in teachers_by_node(experiment) if role in built]
    said: set[str] = set()
    lessons = [
        *(
            ("teacher_pretrain", "teacher_loss", experiment.teacher_loss, training)
            for node, training in trainings_of(experiment)
            if node != "student_train"
        ),
        ("student_train", "loss", experiment.loss, experiment.student_train),
        *(
            ("student_train", _key_of(role), control.loss, control.training)
            for role, control in experiment.controls.items()
        ),
    ]
    for node, key, loss, training in lessons:
        if loss and reads_networks(loss) and teachers_by_node(experiment) and not taught:
            continue  # why the teacher cannot be built is said elsewhere
        if loss and (described or fits_stand_in(loss)):
            called = experiment.loss_called(loss)
            with _saying(key, said, errors, loss.target):
                check_method(called, loss.resolve(), Objective)
                live = [Frozen(network) for network in taught] if reads_networks(loss) else []
                fitted = [one for network in taught if (one := estimator_in(network))]
                if live and not all(one.layered for one in fitted):
                    finished = any(teacher.finished for teacher in experiment.teachers)
                    how = "only answers" if finished else "is fitted at once"
                    names = ",".join(terms_of(loss.spec))
                    raise UserError(
                        f"loss.features={names} reads hidden layers of the teacher, and one that {how} has "
                        "none: choose a network, or loss.features=none"
                    )
                mixer = f"{node}.augment" if mixes(training) else None
                try:
                    taught_by = replace(made, teacher=answering(made.task, loss, taught))
                    tried = try_loss(loss, student, streams, taught_by, live, mixer, called)
                except WrongStudent:
                    if "student" in built:
                        raise
                    continue  # another stood in for it
                learners = [student] if node == "student_train" else taught
                _check_accumulate(node, training, tried, learners, rows)
                errors += _too_few(node, training, called, tried)
                # of one that makes no steps it is said elsewhere that it cannot move
                if experiment.moving and loss is experiment.loss and taught and not fitted:
                    try_moving(experiment.moving, loss, student, streams, made, taught[0], called)
                if described and loss is experiment.loss:
                    idle |= {f"loss.{name}": why for name, why in tried.idle().items()}
    if (
        experiment.loss
        and experiment.student_train
        and streams
        and experiment.student_train.spec["batch_size"] == 1
    ):
        with checks.gather(errors):
            objective = experiment.loss.resolve()
            read = {name: 1 for name in (*objective.uses, *objective.may_use) if name in streams}
            shares(1, read, None)
    return idle


def answering(task: Task, loss: Component, networks: Sequence[torch.nn.Module]) -> Teacher | None:
    """The teachers themselves, where the form of an answer hangs on who gives it; None: it does not."""
    if (
        not networks
        or not task.several_forms
        or "answers" not in declared(loss.target, "reads", ("answers",))
    ):
        return None
    return live_teacher([Frozen(network) for network in networks], "main", task.mean)


def _key_of(role: str) -> str:
    """Where the loss of a control is set."""
    return "baseline_loss" if role in CONTROLS else f"controls.{role}.loss"


@contextmanager
def _saying(key: str, said: set[str], errors: list[str], own: str) -> Iterator[None]:
    """`trying` of a loss that is set at `key`. said: by the losses before, from one of which it may take its
    keys, so that they are wrong once."""
    found: list[str] = []
    with trying(found, own=own):
        yield
    errors += [_in_words_of(key, message) for message in found if message not in said]
    said |= {*found}


def _in_words_of(key: str, message: str) -> str:
    """What a loss says of a key of its own, which it calls `loss.KEY`, by where it is set."""
    return f"{key}.{message.removeprefix('loss.')}" if message.startswith("loss.") else message


def _too_few(node: str, training: Component | None, called: str, objective: Objective) -> Iterator[str]:
    """Whether a batch has the rows that a loss, or its terms on hidden features, compares with each other."""
    if training is None:
        return
    size = training.spec["batch_size"]
    parts = {
        name.rpartition(".")[2]: part
        for name, part in objective.named_modules()
        if isinstance(part, Objective | Features) and part.least_rows > size
    }
    terms = [name for name, part in parts.items() if isinstance(part, Features)]
    named = [f"loss.features={','.join(terms)}"] if terms else []
    least = max((part.least_rows for part in parts.values()), default=1)
    for what in ([called] if len(terms) < len(parts) else []) + named:
        yield (
            f"{what} compares the rows of a batch with each other, and {node}.batch_size={size} has "
            f"{'one' if size == 1 else size}: set it to {least} at least"
        )


def _check_accumulate(
    node: str,
    training: Component | None,
    objective: Objective,
    learners: Sequence[torch.nn.Module],
    rows: Mapping[str, int],
) -> None:
    """Whether a batch in parts is what a whole one would be. learners: the networks that train so. rows: of
    each split."""
    parts = training.spec.get("accumulate", 1) if training else 1
    if training is None or not isinstance(parts, int) or parts < 2:
        return
    read = {name: rows[name] for name in (*objective.uses, *objective.may_use) if rows.get(name)}
    size, share = training.spec["batch_size"], training.spec["labelled_share"]
    sizes = shares(size, read, share) if read and size > 1 else {"labelled": size}
    for network in learners:
        check_accumulate(f"{node}.accumulate", parts, objective, network, sizes)


def available(experiment: Experiment, about: Description, rows: Mapping[str, int]) -> list[str]:
    """Names of the streams that the data will have; a guess where `rows` are not known, as the sizes do not
    fit.
    """
    if rows:
        return [name for name, count in rows.items() if count and name != "test"]
    hidden = experiment.sizes["labelled"] is not None or about.pool > 0
    pool = (hidden and experiment.sizes["unlabelled"] != 0) or experiment.rows_made_up > 0
    return (
        ["labelled"]
        + ["unlabelled"] * pool
        + ["validation"] * (about.validation is not None or experiment.sizes["validation"] is not None)
    )
