"""Checks before any work that need torch or a look at the data: what would stop a run in the night stops it
in a second. Here all of them together, and those of sizes, batches and room.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping

import torch

from kdx import models
from kdx.config.contract import is_rule
from kdx.config.kinds import adapter_of, check_given, check_kind, check_pool, task_of, trainings_of
from kdx.config.networks import check_networks, lacks_pool
from kdx.config.other_pool import check_changes, check_other_pool
from kdx.config.suggestions import networks_for
from kdx.config.tried_data import describe_data, try_loader
from kdx.config.tried_steps import builds_own_steps, check_head_steps, try_shift, try_steps
from kdx.config.tried_through import check_through
from kdx.config.trying import trying
from kdx.config.unused import Learned
from kdx.config.wire import Order
from kdx.core import capacity, checks, path_checks
from kdx.core.errors import UserErrors, in_short
from kdx.core.hidden_answers import head_width
from kdx.data.raw import Description
from kdx.data.sizes import check_classes, check_sizes
from kdx.models.size import bytes as bytes_of
from kdx.pipeline.controls import CONTROLS
from kdx.pipeline.foretelling.data import rows_of_splits
from kdx.pipeline.recipes.asking import answer_form
from kdx.pipeline.recipes.checks import taught_splits
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Request, build_recipe
from kdx.store.component import Component
from kdx.store.declared import declared
from kdx.tasks.answer_formats import distributions
from kdx.tasks.kept import place_bytes
from kdx.training.length import passes, shares, stored_bytes, total_steps, used


def preflight(order: Order) -> None:
    """Raises UserErrors with everything that is wrong, together. No file is written but what a data set
    downloads.
    """
    errors = inspect(order)
    if errors:
        raise UserErrors(errors)


def inspect(order: Order, *, data: bool = True, learned: Learned | None = None) -> list[str]:
    """Everything that is wrong with an order, parts of which may be None (see
    kdx.config.wire.examine_config). data: look at the data set too.

    learned: is filled with what is found out on the way.
    """
    errors: list[str] = []
    experiment, learned = order.experiment, learned or Learned()
    if order.runtime:
        with checks.gather(errors):
            order.runtime.settle()
        if order.runtime.gpus > 1 and any(
            loss and declared(loss.target, "acts", False)
            for loss in (experiment.loss, experiment.teacher_loss)
        ):
            errors.append(
                f"device.gpus={order.runtime.gpus}: a network that acts plays episodes of its own, which "
                "several processes cannot share out: set device.gpus=1"
            )
    for node, training in trainings_of(experiment):
        if training and builds_own_steps(training, errors):
            with trying(found := []):
                training.build()
            # what is wrong with a step, which both may take, begins with its own name
            errors += [
                f"{node}.{one}" if one.split(" ")[0].rstrip(":") in training.spec else one for one in found
            ]
    about = describe_data(experiment, errors) if data and experiment.dataset else None
    if about:
        try_loader(order, about, errors)
    check_kind(order, about, errors)
    for _, training in trainings_of(experiment):
        if training and about:
            try_steps(training, about, errors)
    shifts: list[str] = []
    for name, shift in order.shifts:
        try_shift(name, shift, about, shifts)
    errors += in_short(shifts, "shift")
    wrong_sizes = (check_classes(about) or check_sizes(about, **experiment.sizes)) if about else []
    errors += wrong_sizes
    found_pool = checks.attempt([], rows_of_splits, experiment, about) if about and not wrong_sizes else None
    rows = found_pool or {}  # what is wrong with another data set that stands in for the pool is said below
    learned.rows |= rows
    check_controls(experiment, about, rows, errors)
    for node, training in trainings_of(experiment):
        with checks.gather(errors):
            if about and training:
                check_batch(node, training.spec["batch_size"], about)
    check_head_steps(experiment, rows, errors)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        learned.idle |= check_networks(order, about, rows, errors)
    if not experiment.select or is_rule(experiment.select):
        with trying(errors):
            check_recipe(order, about, rows)
    if about:
        in_turn = "set recipe.by=class, or time"
        check_changes("recipe.domains", experiment.domains, about, errors, in_turn)
        check_other_pool(experiment, about, errors)
        check_through(experiment, about, errors)
        if not lacks_pool(order):
            check_pool(experiment, about, rows, errors)
        with trying(errors):
            check_given(experiment, about, rows)
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
        check_room(order, about, learned.room)
    return [*errors, *learned.room]


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


def check_batch(node: str, size: int, about: Description) -> None:
    """Whether a batch's pictures alone would fit into memory: as float32, and what the first layer makes of
    them at least as large.
    """
    shape = about.shape
    what = f"pictures of {shape[1]}x{shape[2]}" if shape and len(shape) == 3 else "such rows"
    numbers = sum(math.prod(shape) for shape, _ in about.example.values())
    capacity.fits(f"{node}.batch_size={size}, of {what},", 2 * 4 * size * numbers, "lower it")


def check_recipe(order: Order, about: Description | None, rows: Mapping[str, int]) -> None:
    """What the recipe has against the experiment. rows: of each split, empty where they are not known."""
    if order.recipe is not None:
        recipe, chosen = build_recipe(order.recipe), order.config["choices"]
        named = about is not None and recipe.assistants and not order.experiment.assistants
        besides = [chosen["student"], *(teacher.name for teacher in order.experiment.teachers)]
        networks = networks_for(about.reads, besides) if about and named else []
        classes = about.classes if about else None
        asked = Request(order.experiment, order.config, rows, networks, classes)
        checks.refuse_all(recipe.errors(asked))


def check_room(order: Order, about: Description, errors: list[str]) -> None:
    """Whether the store's disk has room for the prepared data, the answers and the checkpoints."""
    experiment = order.experiment
    folder = path_checks.existing(order.store)
    needed = room(experiment, about)
    free = shutil.disk_usage(folder).free
    if free < needed:
        errors.append(
            f"no space left for this run: it needs about {needed / 1e6:.0f} MB in {order.store}, and "
            f"{free / 1e6:.0f} MB are free; set store=PATH on another disk"
        )


def room(experiment: Experiment, about: Description) -> int:
    """Bytes, about: rows, stored answers up to the limit, in shards twice, and for each network its weights
    twice and a checkpoint of them.
    """
    split = rows_of_splits(experiment, about)
    rows, counts = sum(split.values()), {name: split[name] for name in ("labelled", "unlabelled")}
    spec = experiment.student_train.spec
    seen = used(counts, spec["rows"] if isinstance(spec["rows"], int) else None)
    steps = total_steps(spec, sum(seen.values()), "student_train")
    read = {name: count for name, count in seen.items() if name in taught_splits(experiment)}
    views = (
        passes(steps, shares(spec["batch_size"], read, None), read) if read and spec["batch_size"] > 1 else {}
    )
    answers = min(
        stored_bytes(counts, views, kept_bytes(experiment, about)), experiment.pseudo_label["limit"]
    )
    networks = sum(
        8 * bytes_of(network_of(m, about))
        for m in (*(teacher.model for teacher in experiment.teachers), experiment.student)
    )
    # of the rows: these have a data set of their own
    copies = 1 + sum(control.also is not None for control in experiment.controls.values())
    shards = experiment.pseudo_label["shards"] > 1
    return copies * rows * about.row_bytes() + (2 if shards else 1) * answers + networks


def network_of(model: Component, about: Description) -> torch.nn.Module:
    """Fresh, fit for the data set."""
    return models.build_for(
        model,
        task=task_of(about),
        example=about.example,
        reads=about.reads,
        adapter=adapter_of(about),
        read_weights=False,
    )


def kept_bytes(experiment: Experiment, about: Description) -> int:
    """Of one stored answer, at most."""
    task, form = task_of(about), answer_form(experiment, lambda model: head_width(network_of(model, about)))
    several = distributions(task) if form else None
    if not form or not several:
        return task.row_bytes()
    return several["places"] * place_bytes(several["width"], form)
