"""What the rows and answers of a data set are, and whether what is to be done to them goes with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kdx.config.contract import check_metric, check_rule, check_task
from kdx.config.moved_answers import check_moves
from kdx.config.options import options_of, target_of
from kdx.config.trying import trying
from kdx.config.wire import Order
from kdx.core import checks
from kdx.core.errors import UserError, WrongPart, lacks_answer, rows_called
from kdx.core.fitness import Fitness
from kdx.core.several import BOXED
from kdx.core.task import Categorical, Task
from kdx.core.trees import leaves
from kdx.data.copies import not_compared
from kdx.data.given import whose_order
from kdx.data.raw import Description
from kdx.data.views.chain import Mixer, Step, changes
from kdx.models.adapt import Adapter
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.stages.arrays import build_task
from kdx.pipeline.stages.files import build_adapter
from kdx.pipeline.stages.given import read_answers
from kdx.pipeline.stages.measuring import build_metric
from kdx.store.component import Component
from kdx.store.declared import declared
from kdx.store.digest import modules_read
from kdx.store.resolve import module_of
from kdx.tasks.answer_formats import distributions
from kdx.tasks.kept import HIDDEN_STATES
from kdx.training.settings import Training

TRIED_ROWS = 2
"""Examples of each stream that are pushed through the networks and the loss."""


def trainings_of(experiment: Experiment) -> list[tuple[str, Component | None]]:
    """The settings of the training stages, by node; those that members of an ensemble share stand once."""
    found: list[tuple[str, Component | None]] = []
    for number, teacher in enumerate(experiment.teachers, 1):
        if all(_spec(teacher.training) != _spec(other) for _, other in found):
            node = f"members.{number}.teacher_pretrain" if found else "teacher_pretrain"
            found.append((node, teacher.training))
    return [*found, ("student_train", experiment.student_train)]


def _spec(training: Component | None) -> Any:
    return training and training.spec


def check_kind(order: Order, about: Description | None, errors: list[str]) -> None:
    """Whether what is to be done to rows and answers goes with what these are."""
    if about is None:
        return
    experiment = order.experiment
    for node, training in trainings_of(experiment):
        with trying([]):  # what is wrong with the settings themselves is reported elsewhere
            steps = training.build() if training else None
            if steps:
                check_order(node, steps, errors)
            several = {"augment": steps.augment, "strong_augment": steps.strong_augment} if steps else {}
            for key, name, step in ((key, *named) for key, found in several.items() for named in found):
                if not isinstance(step, Step | Mixer):
                    own = f"{type(step).__module__}.{type(step).__qualname__}"
                    with trying(errors, own=own):
                        raise WrongPart(
                            f"augment.{name} must be a class derived from kdx.data.views.chain.Step"
                        )
                elif not changes(step, about.reads):
                    errors.append(
                        f"{node}.{key}: {name} changes {rows_called(step.reads)}, and this data set holds "
                        f"{rows_called(about.reads)}: "
                        + ("set augment=none, or " if key == "augment" else "")
                        + (
                            "choose one that moves nothing, such as colour_jitter, or boxes too, such as flip"
                            if about.reads == BOXED
                            else "choose a step that changes those"
                        )
                    )
                elif isinstance(step, Mixer) and step.reads != about.reads:
                    errors.append(
                        f"{node}.{key}: {name} mixes {rows_called(step.reads)}, and rows here have "
                        f"{rows_called(about.reads)}, of which the rest would stay as it is: leave it out"
                    )
    with trying(errors):
        task = task_of(about)
        check_code(experiment, about)
        if not about.task["_target_"].startswith("kdx."):
            check_task(task)
        for node, training in trainings_of(experiment):
            check_target(node, training, task)
        if experiment.class_weights == "balanced":
            Fitness("dataset.class_weights=balanced", Categorical, "leave it out").check(task)
        if experiment.pseudo_label and experiment.pseudo_label["passes"]:
            Fitness("pseudo_label.passes", Categorical, "leave it out").check(task)
        check_distributions(order, task)
        check_temperature(experiment, about, task)
        check_moves(order, about, task, errors)
        check_format(experiment, task)
    for name, described in order.metrics.items():
        with trying(errors, f"metrics.{name}: ", own=described.target):
            check_metric(build_metric(name, described), name, task_of(about))
    with trying(errors):
        if experiment.made_up and (maker := experiment.made_up.build()).reads != about.reads:
            errors.append(
                f"made_up={experiment.made_up.target.split('.')[-2]} makes {rows_called(maker.reads)}, and "
                f"this data set holds {rows_called(about.reads)}: set made_up=none"
            )
    if not about.cheap and experiment.duplicates != "warn":
        errors.append(not_compared(f"duplicates={experiment.duplicates}", "row"))
    if experiment.near_copies and about.reads != "pictures":
        errors.append(
            f"dataset.near_copies compares pictures, and this data set holds {rows_called(about.reads)}: "
            "leave it out"
        )
    elif experiment.near_copies and not about.cheap:
        errors.append(not_compared("near_copies=true", "picture", "near_copies=false"))
    with trying(errors, own=experiment.select.target if experiment.select else ""):
        if experiment.select:
            check_rule(experiment.select, task)


def check_distributions(order: Order, task: Task) -> None:
    """Whether answers are such as the loss compares. Raises UserError."""
    loss = order.experiment.loss
    if loss and declared(loss.target, "needs_distributions", False) and distributions(task) is None:
        raise UserError(
            f"loss={order.config['choices']['loss']} compares distributions over classes or tokens, and an "
            f"answer here is {task.words}: choose another loss, such as kd"
        )


def check_target(node: str, training: Component | None, task: Task) -> None:
    """Whether the metric that counts can have the value at which a training stops."""
    if training and training.spec["target"] is not None:
        metric = task.metric
        low = -math.inf if metric.low is None else metric.low
        checks.number(
            f"{node}.target",
            training.spec["target"],
            low=low,
            high=math.inf if metric.high is None else metric.high,
            open_low=metric.more and low > -math.inf,
        )


def check_format(experiment: Experiment, task: Task) -> None:
    """Whether a part of each answer can be kept, and is enough for the loss. Raises UserError."""
    asked, loss = experiment.pseudo_label, experiment.loss
    if (
        not asked
        or loss is None
        or asked["format"] in ("dense", "text")
        or not declared(loss.target, "reads", ("answers",))
    ):
        return
    name = asked["format"]
    if not declared(loss.target, "reads_kept", False):
        raise UserError(
            f"pseudo_label.format={name} keeps a part of each answer, and "
            f"{experiment.loss_called(loss)} reads all of it: use loss=kd or "
            "loss=divergence, or leave it out"
        )
    for key, value in declared(loss.target, "kept_with", {}).items():
        if (given := loss.spec.get(key, value)) != value:
            raise UserError(
                f"pseudo_label.format={name} keeps a part of each answer, and "
                f"loss.{key}={checks.shown(given, bare=True)} reads all of it: leave one of them out"
            )
    if name == HIDDEN_STATES:  # all of each answer can be had, at any temperature
        return
    width = task.categories(task.made_up(1), None)[0].shape[-1]
    if isinstance(heat := loss.spec.get("temperature"), list):
        raise UserError(
            f"pseudo_label.format={name} keeps answers at one temperature, and "
            f"loss.temperature={checks.shown(heat)} moves: give one number, or leave pseudo_label.format out"
        )
    if name != "sampled" and asked["k"] > width:
        raise UserError(
            f"pseudo_label.k={asked['k']} are more than the {width} that there are: leave some out"
        )
    if name == "sampled" and loss.spec.get("kind", "forward") != "forward":
        raise UserError(
            f"pseudo_label.format={name} keeps draws of the teacher's probabilities, of which "
            f"loss.kind={loss.spec['kind']} needs more: set pseudo_label.format=topk, or loss.kind=forward"
        )


def task_of(about: Description) -> Task:
    """Raises UserError where what a data set names is no task, or one whose code the keys would not know."""
    return build_task({"task": about.task})


def check_order(node: str, steps: Training, errors: list[str]) -> None:
    """Whether steps that know rows by what is stored of them come first."""
    for key, found in (
        ("augment", steps.augment),
        ("strong_augment", [*steps.augment, *steps.strong_augment]),
    ):
        late = [name for name, step in found[1:] if isinstance(step, Step) and step.reads_stored]
        if late:
            errors.append(
                f"{node}.{key}: {late[0]} knows rows by what they hold before anything is done to them: "
                "name it first"
            )
            return


def check_temperature(experiment: Experiment, about: Description, task: Task) -> None:
    """Whether the answers can have the temperature that is asked for."""
    asked = experiment.pseudo_label["temperature"] if experiment.pseudo_label else 1
    if asked in ("auto", 1):
        return
    task.tempered(task.made_up(TRIED_ROWS), 1.0)
    if asked == "fitted" and about.validation is None and experiment.sizes["validation"] is None:
        raise UserError(
            "pseudo_label.temperature=fitted goes by the validation split, and this run has none: set "
            "dataset.validation=0.1, say, or give a number"
        )


def check_code(experiment: Experiment, about: Description) -> None:
    """Whether keys know the code of a task or an adapter of the user's own: they know what the loader's file
    imports.
    """
    known = modules_read([experiment.dataset.target])
    for what, spec in (("task", about.task), ("adapter", about.adapter)):
        module = module_of(spec["_target_"]) if spec else "kdx"
        if module.partition(".")[0] != "kdx" and module not in known:
            checks.refuse(
                f"the data set names {module} for its {what}, and its own file does not import that: import "
                "it there, so that a change of it runs again what hangs on it"
            )


def adapter_of(about: Description) -> Adapter | None:
    return build_adapter({"task": about.task, "adapter": about.adapter})


def check_pool(
    experiment: Experiment, about: Description, rows: Mapping[str, int], errors: list[str]
) -> None:
    """What makes rows for a pool, where one is asked for and there is none: that it is missing is said by who
    needs it. rows: of each split, empty where they are not known.
    """
    loss = experiment.loss
    asks = experiment.select is not None or (loss and "unlabelled" in declared(loss.target, "uses", ()))
    if not rows or rows.get("unlabelled") or experiment.made_up or not asks:
        return
    targets = {name: target_of("made_up", name) for name in options_of("made_up")}
    makers = [name for name, target in targets.items() if target and declared(target, "reads") == about.reads]
    if makers:
        words = ", ".join(f"made_up={name}" for name in makers)
        errors.append(f"rows for a pool can be made up of the labelled ones: {words}")


def check_given(experiment: Experiment, about: Description, rows: Mapping[str, int]) -> None:
    """Whether a file of answers holds such of the task, and where its rows are known by order, enough of
    them. rows: of each split, empty where they are not known. Raises UserError."""
    if experiment.given is None:
        return
    file, found = read_answers(task_of(about), experiment.given)
    if rows and file.files is None and file.numbers is None:
        whole = about.train + (about.validation or 0) + (about.test or 0) + about.pool
        pool = rows["unlabelled"]
        whose_order(file.path, len(file), pool, pool - experiment.rows_made_up, whole)
    told = leaves(found.answers)
    for name in experiment.loss.resolve().needs_answers if experiment.loss else ():
        if name not in told:
            raise lacks_answer(experiment.loss_called(experiment.loss), name, "teacher.file")
