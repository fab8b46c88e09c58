"""Networks built, with their checkpoints, and the losses tried on them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from kdx import models
from kdx.config.aggregates import check_aggregate
from kdx.config.beginnings import check_asked_of_teachers, check_hidden, check_init, check_rolling
from kdx.config.checkpoints import beginnings, check_checkpoints
from kdx.config.kinds import adapter_of, task_of
from kdx.config.losses import available, check_losses, check_teacher_tells
from kdx.config.network_names import called_in_words, option_words, teachers_by_node, who_chose_student
from kdx.config.options import option_file, read_option
from kdx.config.suggestions import such_as
from kdx.config.trials import STAND_IN, MadeUp, made_up
from kdx.config.tried_networks import check_answers_of
from kdx.config.trying import trying
from kdx.config.wire import Order
from kdx.core import checks
from kdx.core.errors import UserError, WrongPart, WrongStudent
from kdx.core.trees import leaves
from kdx.data.raw import Description
from kdx.models.estimator import ONLY_TEACHERS, estimator_in, is_estimator
from kdx.models.renamed import OfOtherClasses
from kdx.models.size import Held, smaller
from kdx.models.tap import penultimate
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import build_recipe
from kdx.store.component import Component
from kdx.store.declared import declared
from kdx.store.resolve import from_own_package

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
    experiment, named, data = order.experiment, option_words(order), about or STAND_IN
    with trying(unknown := []):
        task = task_of(data)
    whose, aggregate = who_chose_student(order), order.config["choices"].get("aggregate", "mean")
    check_aggregate(experiment, aggregate, task if about and not unknown else None, rows, errors)
    if unknown:
        return {}  # reported already
    if experiment.student and is_estimator(experiment.student):
        others = [teacher.name for teacher in experiment.teachers]
        how = "finished" if declared(experiment.student.target, "finished", False) else "fitted at once"
        another = such_as("student", data.reads, others) if about else "another with student="
        errors.append(
            f"{named['student']} is {how}, and not trained by steps: {ONLY_TEACHERS}; choose {another}{whose}"
        )
        return {}
    if experiment.student and not declared(experiment.student.target, "answers", True):
        errors.append(f"{named['student']} reads a vocabulary of its own: {ONLY_TEACHERS}{whose}")
        return {}
    made = MadeUp(data, task)
    built = build_networks(experiment, made, named, errors, described=about is not None, whose=whose)
    if about:
        check_answers(experiment, made, built, errors)
    check_checkpoints(experiment, about, built, errors)
    check_dropout(experiment, built, errors)
    check_features(experiment, built, errors)
    if about:
        check_init(experiment, order.config["choices"]["init"], built, errors)
        check_rolling(order, made, built, errors)
        check_hidden(order, task, built, errors)
        check_asked_of_teachers(order, built, errors)
    check_teacher_tells(experiment, task, built, errors)
    streams = (
        {s: made_up(s, data, task) for s in (*available(experiment, data, rows), *_refused_pool(order, rows))}
        if about and "student" in built
        else None
    )
    return check_losses(experiment, made, built, streams, errors, rows if about else {}, about is not None)


def lacks_pool(order: Order) -> bool:
    """Whether its recipe has no pool, so that it refuses a loss which needs one: no other sentence helps."""
    needs = order.experiment.loss and "unlabelled" in declared(order.experiment.loss.target, "uses", ())
    with trying([]):
        return bool(needs and order.recipe and build_recipe(order.recipe).reads_pool is False)
    return False


def _refused_pool(order: Order, rows: Mapping[str, int]) -> list[str]:
    """The stream that a loss is tried with all the same."""
    return ["unlabelled"] if lacks_pool(order) and not rows.get("unlabelled") else []


def build_networks(
    experiment: Experiment,
    made: MadeUp,
    named: Mapping[str, str],
    errors: list[str],
    *,
    described: bool,
    whose: str = "",
) -> dict[str, Any]:
    """role -> its network, of those that can be built. named: see `option_words`. described: False where
    `made` stands in for a data set that could not be read: a network of other rows is passed over. whose: see
    `who_chose_student`.
    """
    built: dict[str, Any] = {}
    begins = beginnings(experiment)
    maps = {role: teacher.class_map for role, teacher in teachers_by_node(experiment).items()}
    assistants = [(f"assistant {number}", model) for number, model in enumerate(experiment.assistants, 1)]
    taught = [(role, teacher.model) for role, teacher in teachers_by_node(experiment).items()]
    for role, model in (*taught, *assistants, ("student", experiment.student)):
        if model:
            with trying(errors, own=model.target):
                if not described:
                    if made.data.reads not in models.rows_read(model):
                        continue
                    model = model.without("reads")  # which inputs there are is not known
                key = "assistants" if role.startswith("assistant") else role.partition(".")[0]
                key = {"members": "teachers"}.get(key, key)
                if wrong := models.misread(model, named[role], made.data.reads):
                    by = whose if role == "student" else ""
                    checks.refuse(f"{wrong}: choose {such_as(key, made.data.reads)}{by}")
                    continue
                adapter, node = adapter_of(made.data), role if role.startswith("members") else key
                models.check_reads(model, named[role], made.data.reads, adapter, f"{node}.reads")
                names = maps.get(role)
                with _in_keys(role, named[role], model, experiment):
                    built[role] = models.build_for(
                        OfOtherClasses(model, names.places(made.data.classes))
                        if names and described
                        else model,
                        task=made.task,
                        example=made.data.example,
                        reads=made.data.reads,
                        adapter=adapter,
                        read_weights=begins.get(role) is None,
                        held=Held(_TRAINED, called_in_words(role), smaller(role, model.spec)),
                        called=named[role],
                    )
                if described and (fitted := estimator_in(built[role])):
                    fitted.check(made.task)
    return built


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
            file = option_file("loss", loss) if loss else None
            by_loss = file is not None and key[1] in (read_option(file).get(role) or {})
            by, other = (f"loss={loss}", "another loss") if by_loss else ("another option", "leave that out")
            raise UserError(
                f"{named} takes no {key[1]}, which {by} sets: choose another {role}, or {other}"
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
    taught = [(role, teacher.model) for role, teacher in teachers_by_node(experiment).items()]
    between = [(f"assistant {number}", model) for number, model in enumerate(experiment.assistants, 1)]
    for role, model in (*taught, *between, ("student", experiment.student)):
        if role not in built or model.target.startswith("kdx.") or is_estimator(model):
            continue
        before = len(errors)
        with trying(errors, own=model.target):
            check_answers_of(called_in_words(role), built[role], made, wanted)
        if len(errors) > before:
            del built[role]


def check_features(experiment: Experiment, built: Mapping[str, Any], errors: list[str]) -> None:
    """Whether the student has features before a last layer, where a rule of choice reads these."""
    rule = experiment.select
    if rule and "student" in built and any("features" in name for name in declared(rule.target, "needs", ())):
        try:
            penultimate(built["student"]).close()
        except WrongStudent:
            errors.append(
                f"select={rule.target.split('.')[-2]} compares what the last linear layer of a student "
                "reads, and this one has no such layer, as detectors have none: choose another rule, such as "
                "select=uniform"
            )


def check_dropout(experiment: Experiment, built: Mapping[str, Any], errors: list[str]) -> None:
    """Whether networks that answer in several passes have dropout, and each has a turn."""
    passes = experiment.pseudo_label["passes"] if experiment.pseudo_label else 0
    if passes:
        again = experiment.rounds is not None and experiment.rounds > 1 and experiment.budget is None
        answering = [*teachers_by_node(experiment), *(["student"] if again else [])]
        errors += [
            f"pseudo_label.passes are made with dropout, and {called_in_words(role)} has none: set "
            f"{role}.dropout=0.3, say"
            for role in answering
            if role in built and not drops_out(built[role])
        ]
        if passes < len(experiment.teachers):
            errors.append(
                f"pseudo_label.passes={passes} are shared out among {len(experiment.teachers)} teachers, and "
                f"each takes a turn at least: set pseudo_label.passes={2 * len(experiment.teachers)}, say"
            )


def drops_out(network: torch.nn.Module) -> bool:
    return any(
        isinstance(layer, torch.nn.Dropout | torch.nn.Dropout2d) and layer.p > 0
        for layer in network.modules()
    )
