"""Checks before any work that need torch or a look at the data: what would stop a run in the night stops it
in a second.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from kdx import models
from kdx.config.wire import Order
from kdx.core import checks
from kdx.core.errors import Caution, UserError, UserErrors
from kdx.core.examples import blank, random_rows, stored_rows
from kdx.core.task import Categorical, Fitness, OwnMetric, Task
from kdx.core.trees import tree
from kdx.core.types import Batch, Frozen, Objective, Outcome, Parts, Split
from kdx.data.pictures.rows import describe
from kdx.data.raw import Description
from kdx.data.splits import check_classes, check_sizes, count_rows
from kdx.data.views.augment import Mixup
from kdx.data.views.chain import Step
from kdx.data.views.draws import Draws
from kdx.models import checkpoint
from kdx.models.adapt import Adapter
from kdx.models.estimator import ONLY_TEACHERS, is_estimator
from kdx.models.size import Held, smaller
from kdx.models.size import bytes as bytes_of
from kdx.models.weights import load_weights
from kdx.pipeline.controls import CONTROLS
from kdx.pipeline.recipes.checks import taught_splits
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Request, build_recipe
from kdx.pipeline.recipes.steps import class_order_warnings
from kdx.pipeline.stages.arrays import build_task
from kdx.pipeline.stages.evaluate import build_metric
from kdx.pipeline.stages.files import build_adapter
from kdx.pipeline.stages.learn import missing_stream, reads_networks
from kdx.store.component import Component
from kdx.store.digest import modules_read
from kdx.store.resolve import module_of, own_error
from kdx.training.length import passes, shares, stored_bytes, total_steps, used

_TRAINED = 4
"""Of a network in training: weights, gradients and the optimiser's two averages."""
_ROWS = 2
"""Examples of each stream that are pushed through the networks and the loss."""
STAND_IN = describe((3, 64, 64), tuple("0123456789"), 1000, (100,) * 10, 100, 100)
"""Where the data cannot be read: what is wrong with the networks and losses in themselves is reported all the
same.
"""


def preflight(order: Order) -> None:
    """Raises UserErrors with everything that is wrong, together. No file is written but what a data set
    downloads.
    """
    errors = inspect(order)
    if errors:
        raise UserErrors(errors)


def inspect(order: Order, *, data: bool = True, splits: dict[str, int] | None = None) -> list[str]:
    """Everything that is wrong with an order, parts of which may be None (see
    kdx.config.wire.examine_config). data: look at the data set too.

    splits: is filled with the rows of each split, as far as they can be known.
    """
    errors: list[str] = []
    experiment = order.experiment
    if order.runtime:
        with checks.gather(errors):
            order.runtime.settle()
    for node, training in trainings_of(experiment):
        if training:
            with trying(errors, f"{node}."):
                training.build()
    about = describe_data(experiment, errors) if data and experiment.dataset else None
    check_kind(order, about, errors)
    for name, shift in order.shifts:
        try_shift(name, shift, about or STAND_IN, errors)
    wrong_sizes = (check_classes(about) or check_sizes(about, **experiment.sizes)) if about else []
    errors += wrong_sizes
    rows = count_rows(about, **experiment.sizes) if about and not wrong_sizes else {}
    if splits is not None:
        splits |= rows
    check_controls(experiment, about, rows, errors)
    for node, training in trainings_of(experiment):
        with checks.gather(errors):
            if about and training:
                check_batch(node, training.spec["batch_size"], about)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        check_networks(experiment, about, rows, errors)
    with trying(errors):
        check_recipe(order, rows)
    for node, training in trainings_of(experiment):
        if (
            about
            and training
            and isinstance(training.spec["rows"], int)
            and 0 < training.spec["rows"] < len(about.classes)
        ):
            errors.append(
                f"{node}.rows={training.spec['rows']} are fewer labelled rows than the {len(about.classes)} "
                "classes: each needs one"
            )
    if about and not errors and order.sound:
        check_room(order, about, errors)
    return errors


def check_controls(
    experiment: Experiment, about: Description | None, rows: Mapping[str, int], errors: list[str]
) -> None:
    """Whether there are the labels that a control asks for, and its training is one."""
    for role, trained in experiment.controls.items():
        with trying(errors):
            checks.refuse_all(trained.control.errors(experiment.sizes, rows) if about else ())
        if role not in CONTROLS:
            with trying(errors, f"controls.{role}: "):
                trained.training.build()


@contextmanager
def trying(errors: list[str], prefix: str = "") -> Iterator[None]:
    """`checks.gather`, also for what the user's own code raises: they are reported with where, and not with a
    traceback through ours.
    """
    try:
        with checks.gather(errors, prefix):
            yield
    except Exception as error:
        own = own_error(error)
        if own is None:
            raise
        errors.append(f"{prefix}your own code fails when it is tried on made-up data: {own}")


def describe_data(experiment: Experiment, errors: list[str]) -> Description | None:
    """What the data set holds, without reading all of it; None (and the errors) where it cannot be read."""
    found = None
    before = len(errors)
    with trying(errors):
        loader = experiment.dataset.build()
        if len(errors) == before:
            loader.fetch()
            found = loader.describe()
    return found if len(errors) == before else None


def trainings_of(experiment: Experiment) -> list[tuple[str, Component | None]]:
    """The settings of both training stages, by node."""
    return [("teacher_pretrain", experiment.teacher_pretrain), ("student_train", experiment.student_train)]


def check_kind(order: Order, about: Description | None, errors: list[str]) -> None:
    """Whether what is to be done to rows and answers goes with what these are."""
    if about is None:
        return
    experiment = order.experiment
    for node, training in trainings_of(experiment):
        with trying([]):  # what is wrong with the settings themselves is reported elsewhere
            steps = training.build() if training else None
            for name, step in (*steps.augment, *steps.strong_augment) if steps else ():
                if step.reads != about.reads:
                    errors.append(
                        f"{node}.augment: {name} changes {step.reads}, and the rows of this data set are "
                        f"{about.reads}: set augment=none, or choose a step for {about.reads}"
                    )
    with trying(errors):
        task = task_of(about)
        check_code(experiment, about)
        for node, training in trainings_of(experiment):
            check_target(node, training, task)
        if experiment.class_weights == "balanced":
            Fitness("dataset.class_weights=balanced", Categorical, "leave it out").check(task)
        if experiment.pseudo_label and experiment.pseudo_label["passes"]:
            Fitness("pseudo_label.passes", Categorical, "leave it out").check(task)
    for name, described in order.metrics.items():
        with trying(errors, f"metrics.{name}: "):
            check_metric(build_metric(name, described), name, task_of(about))
    with trying(errors):
        if experiment.select and (rule := experiment.select.build()):
            name = experiment.select.target.split(".")[-2]
            Fitness(f"select={name}", rule.needs_task, "leave it out").check(task)


def check_metric(metric: OwnMetric, name: str, task: Task) -> None:
    """Tries it on made-up answers."""
    if name in task.shown:
        raise UserError("the task has a metric of that name: give it another")
    value = metric.measure(task.made_up(_ROWS), task.made_up_truth(_ROWS))
    if not isinstance(value, int | float):
        raise UserError(f"measure must return a number; given: {checks.shown(value)}")


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


def task_of(about: Description) -> Task:
    """Raises UserError where what a data set names is no task, or one whose code the keys would not know."""
    return build_task({"task": about.task})


def check_code(experiment: Experiment, about: Description) -> None:
    """Whether keys know the code of a task or an adapter of the user's own: they know what the loader's file
    imports.
    """
    known = modules_read([experiment.dataset.target])
    for what, spec in (("task", about.task), ("adapter", about.adapter)):
        module = module_of(spec["_target_"]) if spec else "kdx"
        if not module.startswith("kdx") and module not in known:
            checks.refuse(
                f"the data set names {module} for its {what}, and its own file does not import that: import "
                "it there, so that a change of it runs again what hangs on it"
            )


def adapter_of(about: Description) -> Adapter | None:
    return build_adapter({"task": about.task, "adapter": about.adapter})


def check_networks(
    experiment: Experiment, about: Description | None, rows: Mapping[str, int], errors: list[str]
) -> None:
    """Builds both networks and the losses, reads the checkpoints, and pushes a few made-up pictures of the
    data's shape through all of them.

    rows: of each split, as far as they are known.
    """
    data = about or STAND_IN
    with trying(unknown := []):
        task = task_of(data)
    if unknown:
        return  # reported already
    built: dict[str, Any] = {}
    if about and experiment.student and is_estimator(experiment.student):
        name = experiment.student.target.rpartition(".")[2]
        errors.append(f"student={name} is fitted at once, and not trained by steps: {ONLY_TEACHERS}")
        return
    begins = {"teacher": experiment.checkpoint, "student": experiment.student_checkpoint}
    assistants = [(f"assistant {number}", model) for number, model in enumerate(experiment.assistants, 1)]
    for role, model in (("teacher", experiment.teacher), *assistants, ("student", experiment.student)):
        if model:
            with trying(errors):
                built[role] = models.build_for(
                    model,
                    task=task,
                    example=data.example,
                    reads=data.reads,
                    adapter=adapter_of(data),
                    read_weights=begins.get(role) is None,
                    held=Held(_TRAINED, f"the {role}", smaller(role, model.spec)),
                )
    for role, given in begins.items():
        if given:
            with checks.gather(errors):
                file, trained = (
                    given.file.paths[0],
                    role == "student" or experiment.teacher_pretrain is not None,
                )
                if about and role in built:
                    load_weights(built[role], file, key=given.key, role=role, new_head=trained)
                    class_order_warnings(role, given, about.classes, trained)
                else:
                    checkpoint.read_weights_file(file, key=given.key, role=role)
    if experiment.pseudo_label and experiment.pseudo_label["passes"]:
        answering = (
            ("teacher", "student")
            if experiment.rounds is not None and experiment.rounds > 1 and experiment.budget is None
            else ("teacher",)
        )
        errors += [
            f"pseudo_label.passes are made with dropout, and the {role} has none: set {role}.dropout=0.3, say"
            for role in answering
            if role in built and not drops_out(built[role])
        ]
    student = built.get("student") or torch.nn.Identity()
    streams = (
        {s: made_up(s, data, task) for s in available(experiment, data, rows)}
        if about and "student" in built
        else None
    )
    lessons = [
        ("teacher_pretrain", experiment.teacher_loss, experiment.teacher_pretrain),
        ("student_train", experiment.loss, experiment.student_train),
        *(("student_train", control.loss, control.training) for control in experiment.controls.values()),
    ]
    for node, loss, training in lessons:
        if loss:
            with trying(errors):
                live = [Frozen(built["teacher"])] if "teacher" in built and reads_networks(loss) else []
                try_loss(
                    loss,
                    student,
                    streams,
                    MadeUp(data, task),
                    live,
                    f"{node}.augment" if mixes(training) else None,
                )
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


def check_batch(node: str, size: int, about: Description) -> None:
    """Whether a batch's pictures alone would fit into memory: as float32, and what the first layer makes of
    them at least as large.
    """
    shape = about.shape
    what = f"pictures of {shape[1]}x{shape[2]}" if shape and len(shape) == 3 else "such rows"
    numbers = sum(math.prod(shape) for shape, _ in about.example.values())
    checks.fits(f"{node}.batch_size={size}, of {what},", 2 * 4 * size * numbers, "lower it")


def drops_out(network: torch.nn.Module) -> bool:
    return any(
        isinstance(layer, torch.nn.Dropout | torch.nn.Dropout2d) and layer.p > 0
        for layer in network.modules()
    )


def check_recipe(order: Order, rows: Mapping[str, int]) -> None:
    """What the recipe has against the experiment. rows: of each split, empty where they are not known."""
    if order.recipe is not None:
        asked = Request(order.experiment, order.config, rows)
        checks.refuse_all(build_recipe(order.recipe).errors(asked))


def available(experiment: Experiment, about: Description, rows: Mapping[str, int]) -> list[str]:
    """Names of the streams that the data will have; a guess where `rows` are not known, as the sizes do not
    fit.
    """
    if rows:
        return [name for name, count in rows.items() if count and name != "test"]
    hidden = experiment.sizes["labelled"] is not None or about.pool > 0
    pool = hidden and experiment.sizes["unlabelled"] != 0
    return (
        ["labelled"]
        + ["unlabelled"] * pool
        + ["validation"] * (about.validation is not None or experiment.sizes["validation"] is not None)
    )


def made_up(name: str, about: Description, task: Task) -> Batch:
    index = torch.arange(_ROWS)
    rows = random_rows(about.example, _ROWS)
    y = None if name == "unlabelled" else task.made_up_truth(_ROWS)
    return Batch(
        name,
        index,
        torch.ones(_ROWS, dtype=torch.int64),
        dict.fromkeys(("main", "clean", "second", "strong"), rows),
        y,
    )


def mixes(training: Component | None) -> bool:
    """Whether a stage mixes pictures, and their labels with them. What is wrong with its settings is reported
    elsewhere.
    """
    with trying([]):
        return training is not None and any(isinstance(step, Mixup) for _, step in training.build().augment)
    return False


def mixed(batch: Batch, task: Task) -> Batch:
    """The batch with truth such as mixup makes: of each row and the next one."""
    if batch.y is None:
        return batch
    other = tree(lambda leaf: leaf.roll(1, dims=0), batch.y)
    return replace(batch, y=task.mix(batch.y, other, torch.full((len(batch),), 0.75)))


def try_shift(name: str, shift: Component, about: Description, errors: list[str]) -> None:
    """Builds a shift, and looks at a made-up picture through it."""
    before = len(errors)
    with trying(errors):
        step = shift.build()
    if len(errors) == before and not isinstance(step, Step):
        errors.append(
            f"shift.{name} needs a step of kdx.data.views.shift or kdx.data.views.augment; given "
            f"{type(step).__name__}: see `kdx list shift`"
        )
    if len(errors) == before and step.reads != about.reads:
        errors.append(
            f"shift.{name} changes {step.reads}, and the rows of this data set are {about.reads}: leave it "
            "out"
        )
    if len(errors) == before:
        row = torch.zeros(1, dtype=torch.int64)
        with trying(errors):
            step(random_rows(about.example, 1), Draws(0, "test", row, row + 1), name)


@dataclass(frozen=True)
class MadeUp:
    """What rows and their answers are like, for making up some."""

    data: Description
    task: Task


def parts_for(student: torch.nn.Module, made: MadeUp, live: list[Frozen], validated: bool) -> Parts:
    """Parts of made-up rows and answers. validated: whether there is a validation split."""
    task, example = made.task, made.data.example
    validation = (
        Split("validation", stored_rows(example, _ROWS), task.made_up_truth(_ROWS)) if validated else None
    )
    several = task.spread([task.made_up(_ROWS), task.made_up(_ROWS)]) if isinstance(task, Categorical) else {}
    extras = {name: lambda batch, values=values: values[: len(batch)] for name, values in several.items()}
    return Parts(
        student,
        lambda: student,
        lambda batch: task.made_up(len(batch)),
        live,
        validation,
        task,
        extras,
        blank(example),
    )


def try_loss(
    loss: Component,
    student: torch.nn.Module,
    streams: Mapping[str, Batch] | None,
    made: MadeUp,
    live: list[Frozen],
    mixer: str | None,
) -> None:
    """Builds a loss; with streams, one forward and backward pass, in eval mode so that batch normalisation
    takes two rows. mixer: the key whose steps mix pictures, so that labels are probabilities; None: classes.
    """
    method, task = loss.resolve(), made.task
    Fitness(f"loss={method.__name__}", method.needs_task, "choose another loss, such as kd").check(task)
    if weights := loss.spec.get("weights"):
        weighting = Component(weights).resolve()
        Fitness(f"loss.weights={weighting.__name__}", weighting.needs_task, "leave it out").check(task)
    parts = parts_for(student, made, live, streams is None or "validation" in streams)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caution)  # two made-up rows say nothing about the data
        if streams is None or mixer is None:
            push(loss.build(parts), streams, student)
            return
        if "second" in loss.resolve().extra_views:
            raise UserError(
                f"{mixer} holds mixup, and {loss.target.rpartition('.')[2]} compares two views of a picture, "
                "of which only one could be mixed: leave mixup out"
            )
        try:
            push(loss.build(parts), {name: mixed(batch, task) for name, batch in streams.items()}, student)
        except Exception as error:
            if isinstance(error, UserError) or not takes_classes(loss, parts, streams):
                raise
            raise UserError(
                f"{mixer} holds mixup, whose labels are probabilities of the classes, (B, {task.width}), and "
                f"{loss.target.rpartition('.')[2]} takes class numbers only "
                f"({own_error(error) or f'{type(error).__name__}: {error}'}): leave mixup out, or make the "
                "loss of kdx.core.math.cross_entropy, which takes both"
            ) from error


def takes_classes(loss: Component, parts: Parts, streams: Mapping[str, Batch]) -> bool:
    """Whether a loss that fails on mixed labels works on plain ones, so that they are the reason."""
    try:
        push(loss.build(parts), streams, parts.student)
    except Exception:
        return False
    return True


def push(objective: Objective, streams: Mapping[str, Batch] | None, student: torch.nn.Module) -> None:
    if streams is None:
        return
    for name in objective.uses:
        if name not in streams:
            checks.refuse(missing_stream(type(objective).__name__, name, list(streams)))
            return
    objective.eval()
    objective.refresh()
    outcome = objective(streams, 0.0)
    method = type(objective).__name__
    if not isinstance(outcome, Outcome) or not outcome.terms:
        checks.refuse(
            f"{method}.forward must return an Outcome with at least one term; given: {outcome!r:.80}"
        )
    elif wrong := [
        name for name, term in outcome.terms.items() if not isinstance(term, torch.Tensor) or term.dim()
    ]:
        checks.refuse(
            f"the terms of {method} must be scalars, such as `cross_entropy(logits, y).mean()`; not so: "
            f"{', '.join(wrong)}"
        )
    elif not outcome.loss.requires_grad:
        checks.refuse(
            f"the terms of {method} do not depend on the student, which would learn nothing: "
            f"{', '.join(outcome.terms)}"
        )
    else:
        outcome.loss.backward()
    student.zero_grad(set_to_none=True)


def check_room(order: Order, about: Description, errors: list[str]) -> None:
    """Whether the store's disk has room for the prepared data, the answers and the checkpoints."""
    experiment = order.experiment
    folder = checks.existing(order.store)
    needed = room(experiment, about)
    free = shutil.disk_usage(folder).free
    if free < needed:
        errors.append(
            f"no space left for this run: it needs about {needed / 1e6:.0f} MB in {order.store}, and "
            f"{free / 1e6:.0f} MB are free; set store=PATH on another disk"
        )


def room(experiment: Experiment, about: Description) -> int:
    """Bytes, about: rows, stored answers up to the limit, and for each network its weights twice and a
    checkpoint of them.
    """
    split = count_rows(about, **experiment.sizes)
    rows, counts = sum(split.values()), {name: split[name] for name in ("labelled", "unlabelled")}
    spec = experiment.student_train.spec
    seen = used(counts, spec["rows"] if isinstance(spec["rows"], int) else None)
    steps = total_steps(spec, sum(seen.values()), "student_train")
    read = {name: count for name, count in seen.items() if name in taught_splits(experiment)}
    views = (
        passes(steps, shares(spec["batch_size"], read, None), read) if read and spec["batch_size"] > 1 else {}
    )
    answers = min(stored_bytes(counts, views, task_of(about).row_bytes()), experiment.pseudo_label["limit"])
    networks = sum(
        8
        * bytes_of(
            models.build_for(
                m,
                task=task_of(about),
                example=about.example,
                reads=about.reads,
                adapter=adapter_of(about),
                read_weights=False,
            )
        )
        for m in (experiment.teacher, experiment.student)
    )
    # of the rows: these have a data set of their own
    copies = 1 + sum(control.also is not None for control in experiment.controls.values())
    return copies * rows * about.row_bytes() + answers + networks
