"""Networks built, with their checkpoints, and the losses tried on them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from kdx import models
from kdx.config.beginnings import check_init
from kdx.config.kinds import adapter_of, task_of, trainings_of
from kdx.config.suggest import such_as
from kdx.config.trials import STAND_IN, MadeUp, fits_stand_in, made_up, mixes, try_loss
from kdx.config.tried_networks import check_answers_of
from kdx.config.trying import trying
from kdx.config.wire import Order
from kdx.core import checks
from kdx.core.errors import UserError, WrongPart
from kdx.core.task import Task
from kdx.core.trees import leaves
from kdx.core.types import Batch, Frozen, Objective, lacks_answer
from kdx.data.raw import Description
from kdx.models import checkpoint
from kdx.models.estimator import ONLY_TEACHERS, estimator_in, is_estimator
from kdx.models.size import Held, smaller
from kdx.models.weights import load_weights
from kdx.pipeline.recipes.experiment import Experiment, TeacherSetup
from kdx.pipeline.recipes.steps import class_order_warnings
from kdx.pipeline.stages.parts import reads_networks
from kdx.store.component import Component
from kdx.store.declared import declared
from kdx.store.resolve import from_own_package
from kdx.training.length import shares
from kdx.training.loop import check_accumulate

_TRIED = 2
"""Made-up rows."""
_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")
_TRAINED = 4
"""Of a network in training: weights, gradients and the optimiser's two averages."""


def check_networks(
    order: Order, about: Description | None, rows: Mapping[str, int], errors: list[str]
) -> dict[str, str]:
    """Builds both networks and the losses, reads the checkpoints, and pushes a few made-up pictures of the
    data's shape through all of them.

    rows: of each split, as far as they are known. Returns what the student's loss says of its settings that
    are without effect, key -> why; empty where it could not be built.
    """
    experiment, named, data = order.experiment, _options(order), about or STAND_IN
    with trying(unknown := []):
        task = task_of(data)
    if unknown:
        return {}  # reported already
    if experiment.student and is_estimator(experiment.student):
        others = [teacher.name for teacher in experiment.teachers]
        how = "finished" if declared(experiment.student.target, "finished", False) else "fitted at once"
        errors.append(
            f"{named['student']} is {how}, and not trained by steps: {ONLY_TEACHERS}; choose "
            + such_as("student", data.reads, others)
        )
        return {}
    made = MadeUp(data, task)
    built = build_networks(experiment, made, named, errors, described=about is not None)
    if about:
        check_answers(experiment, made, built, errors)
    check_checkpoints(experiment, about, built, errors)
    check_dropout(experiment, built, errors)
    if about:
        check_init(experiment, order.config["choices"]["init"], built, errors)
    check_teacher_tells(experiment, task, built, errors)
    streams = (
        {s: made_up(s, data, task) for s in available(experiment, data, rows)}
        if about and "student" in built
        else None
    )
    return check_losses(experiment, made, built, streams, errors, rows if about else {}, about is not None)


def build_networks(
    experiment: Experiment, made: MadeUp, named: Mapping[str, str], errors: list[str], *, described: bool
) -> dict[str, Any]:
    """role -> its network, of those that can be built. named: see `_options`. described: False where `made`
    stands in for a data set that could not be read: a network of other rows is passed over.
    """
    built: dict[str, Any] = {}
    begins = beginnings(experiment)
    assistants = [(f"assistant {number}", model) for number, model in enumerate(experiment.assistants, 1)]
    taught = [(role, teacher.model) for role, teacher in _teachers(experiment).items()]
    for role, model in (*taught, *assistants, ("student", experiment.student)):
        if model:
            with trying(errors, own=model.target):
                if not described and made.data.reads not in models.rows_read(model):
                    continue
                if wrong := models.misread(model, named[role], made.data.reads):
                    key = "assistants" if role.startswith("assistant") else role.partition(".")[0]
                    key = {"members": "teachers"}.get(key, key)
                    checks.refuse(f"{wrong}: choose {such_as(key, made.data.reads)}")
                    continue
                with _in_keys(role, named[role], model, experiment):
                    built[role] = models.build_for(
                        model,
                        task=made.task,
                        example=made.data.example,
                        reads=made.data.reads,
                        adapter=adapter_of(made.data),
                        read_weights=begins.get(role) is None,
                        held=Held(_TRAINED, _called(role), smaller(role, model.spec)),
                        called=named[role],
                    )
                if described and (fitted := estimator_in(built[role])):
                    fitted.check(made.task)
    return built


def _teachers(experiment: Experiment) -> dict[str, TeacherSetup]:
    """node -> the teacher, or each member of an ensemble."""
    if len(experiment.teachers) == 1:
        return {"teacher": experiment.teachers[0]}
    return {f"members.{number}": teacher for number, teacher in enumerate(experiment.teachers, 1)}


def _options(order: Order) -> dict[str, str]:
    """Node -> what a sentence calls its network: by the option that was chosen, "student=mlp"."""
    chosen = order.config["assistants"]
    names = [str(name) for name in chosen] if isinstance(chosen, list) else []
    return {
        **{
            node: f"{_called(node)}, {teacher.name}," if "." in node else f"{node}={teacher.name}"
            for node, teacher in _teachers(order.experiment).items()
        },
        **{f"assistant {number}": f"the assistant {name}" for number, name in enumerate(names, 1)},
        "student": f"student={order.config['choices']['student']}",
    }


def _called(role: str) -> str:
    """In a sentence."""
    return role.replace("members.", "member ") if role.startswith("members.") else f"the {role}"


@contextmanager
def _in_keys(role: str, named: str, model: Component, experiment: Experiment) -> Iterator[None]:
    """What a network of the user's own says of a key that it does not take, in words of the options."""
    try:
        yield
    except UserError as error:
        key = _UNEXPECTED.search(str(error))
        if key is None:
            raise
        loss = ""
        if experiment.loss:
            loss = experiment.loss.target.split(".")[-2]
        if not from_own_package(model.target):
            raise UserError(
                f"{named} takes no {key[1]}, which loss={loss} sets: choose another {role}, or another loss"
            ) from error
        noised = role == "student" and key[1] in ("dropout", "stochastic_depth")
        more = f"loss={loss} noises the student by it; let it take that, or choose another loss"
        raise WrongPart(
            f"{named} takes no {key[1]}: " + (more if noised else "let it take that, or leave the key out")
        ) from error


def check_answers(experiment: Experiment, made: MadeUp, built: dict[str, Any], errors: list[str]) -> None:
    """Whether networks of the user's own give answers of the form that the task reads, of which torch would
    make something (it stretches (B,) to (B, B)) that no number shows. Those that do not are left out of
    `built`.
    """
    wanted = {name: tuple(leaf.shape[1:]) for name, leaf in leaves(made.task.made_up(_TRIED)).items()}
    taught = [(role, teacher.model) for role, teacher in _teachers(experiment).items()]
    between = [(f"assistant {number}", model) for number, model in enumerate(experiment.assistants, 1)]
    for role, model in (*taught, *between, ("student", experiment.student)):
        if role not in built or model.target.startswith("kdx.") or is_estimator(model):
            continue
        before = len(errors)
        with trying(errors, own=model.target):
            check_answers_of(_called(role), built[role], made, wanted)
        if len(errors) > before:
            del built[role]


def beginnings(experiment: Experiment) -> dict[str, Any]:
    """role -> the checkpoint that it begins with, or None."""
    found: dict[str, Any] = {role: teacher.checkpoint for role, teacher in _teachers(experiment).items()}
    return {**found, "student": experiment.student_checkpoint}


def check_checkpoints(
    experiment: Experiment, about: Description | None, built: Mapping[str, Any], errors: list[str]
) -> None:
    """Whether each checkpoint can be read, and fits its network."""
    teachers = _teachers(experiment)
    for node, given in beginnings(experiment).items():
        if given:
            role = "teacher" if node in teachers else node
            with checks.gather(errors, "" if node == role else f"{_called(node)}: "):
                file, trained = given.file.paths[0], node == "student" or teachers[node].training is not None
                if node in teachers and teachers[node].fitted:
                    name = teachers[node].name
                    checks.refuse(
                        f"{node}.checkpoint is what a network begins with, and {name} is fitted at once, "
                        "from nothing: leave it out"
                    )
                elif about and node in built:
                    load_weights(built[node], file, key=given.key, role=role, new_head=trained)
                    class_order_warnings(role, given, about.classes, trained)
                else:
                    checkpoint.read_weights_file(file, key=given.key, role=role)


def check_dropout(experiment: Experiment, built: Mapping[str, Any], errors: list[str]) -> None:
    """Whether networks that answer in several passes have dropout, and each has a turn."""
    passes = experiment.pseudo_label["passes"] if experiment.pseudo_label else 0
    if passes:
        again = experiment.rounds is not None and experiment.rounds > 1 and experiment.budget is None
        answering = [*_teachers(experiment), *(["student"] if again else [])]
        errors += [
            f"pseudo_label.passes are made with dropout, and {_called(role)} has none: set "
            f"{role}.dropout=0.3, say"
            for role in answering
            if role in built and not drops_out(built[role])
        ]
        if passes < len(experiment.teachers):
            errors.append(
                f"pseudo_label.passes={passes} are shared out among {len(experiment.teachers)} teachers, and "
                f"each takes a turn at least: set pseudo_label.passes={2 * len(experiment.teachers)}, say"
            )


def check_teacher_tells(
    experiment: Experiment, task: Task, built: Mapping[str, Any], errors: list[str]
) -> None:
    """Whether the teacher, or each member of an ensemble, tells all that the loss reads of it."""
    roles = [role for role in _teachers(experiment) if role in built]
    if experiment.loss is None or not roles:
        return
    # what is wrong with the loss itself is reported elsewhere
    with trying([], own=experiment.loss.target):
        loss = experiment.loss.resolve()
        for name in loss.needs_answers if isinstance(task, loss.needs_task) else ():
            for role in roles:
                if (fitted := estimator_in(built[role])) and name in fitted.tells:
                    continue
                who = "this teacher" if role == "teacher" else _called(role)
                errors.append(str(lacks_answer(experiment.loss.target.split(".")[-2], name, who)))


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
    taught = [built[role] for role in _teachers(experiment) if role in built]
    lessons = [
        *(
            ("teacher_pretrain", experiment.teacher_loss, training)
            for node, training in trainings_of(experiment)
            if node != "student_train"
        ),
        ("student_train", experiment.loss, experiment.student_train),
        *(("student_train", control.loss, control.training) for control in experiment.controls.values()),
    ]
    for node, loss, training in lessons:
        if loss and (described or fits_stand_in(loss)):
            with trying(errors, own=loss.target):
                live = [Frozen(network) for network in taught] if reads_networks(loss) else []
                if live and any(map(estimator_in, taught)):
                    raise UserError(
                        f"loss.features={loss.spec['features']['_target_'].split('.')[-2]} reads hidden "
                        "layers of the teacher, and one that is fitted at once has none: choose a network, "
                        "or loss.features=none"
                    )
                mixer = f"{node}.augment" if mixes(training) else None
                tried = try_loss(loss, student, streams, made, live, mixer)
                learners = [student] if node == "student_train" else taught
                _check_accumulate(node, training, tried, learners, rows)
                if described and loss is experiment.loss:
                    idle |= {f"loss.{key}": why for key, why in tried.idle().items()}
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


def drops_out(network: torch.nn.Module) -> bool:
    return any(
        isinstance(layer, torch.nn.Dropout | torch.nn.Dropout2d) and layer.p > 0
        for layer in network.modules()
    )


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
