"""Checks before any work that need torch or a look at the data: what would stop a run in the night stops it in a second."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from kdx import checks, models
from kdx.budget import passes, shares, stored_bytes, total_steps, used
from kdx.component import Component
from kdx.core import Batch, Frozen, Objective, Parts, Split
from kdx.data.augment import Step
from kdx.data.draws import Draws
from kdx.data.raw import Description
from kdx.data.splits import check_sizes
from kdx.faults import Caution, Faults
from kdx.models.size import bytes as bytes_of
from kdx.models.weights import load_weights, read_weights
from kdx.recipes import Plan
from kdx.stages.learn import missing_stream, reads_networks
from kdx.wiring import Order

ROWS = 2
"""Examples of each stream that are pushed through the networks and the loss."""
STAND_IN = Description((3, 64, 64), tuple("0123456789"), 1000, (100,) * 10, 100, 100)
"""Where the data cannot be read: what is wrong with the networks and losses in themselves is told all the same."""


def preflight(order: Order) -> None:
    """Raises Faults with everything that is wrong, together. No file is written but what a data set downloads."""
    faults = inspect(order)
    if faults:
        raise Faults(faults)


def inspect(order: Order, *, data: bool = True) -> list[str]:
    """Everything that is wrong with an order, parts of which may be None (see kdx.wiring.examine). data: look at the data set too."""
    faults: list[str] = []
    plan = order.plan
    if order.runtime:
        with checks.gather(faults):
            order.runtime.settle()
    for node, training in (("teacher_pretrain", plan.teacher_pretrain), ("student_train", plan.student_train)):
        if training:
            with checks.gather(faults, f"{node}."):
                training.build()
    about = describe(plan, faults) if data and plan.dataset else None
    for name, shift in order.shifts:
        try_shift(name, shift, about or STAND_IN, faults)
    wrong_sizes = check_sizes(about, **plan.sizes) if about else []
    faults += wrong_sizes
    if about and "ceiling" in plan.controls and (plan.sizes["labelled"] is None or plan.sizes["unlabelled"] == 0):
        faults.append("ceiling=true trains a student on the pool's hidden labels, and this run hides none: "
                      "set dataset.labelled=100, say, or ceiling=false")  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        check_networks(plan, about, faults)
    if about and not faults and order.store and plan.pseudo_label and plan.student_train:
        check_room(order, about, faults)
    return faults


def describe(plan: Plan, faults: list[str]) -> Description | None:
    """What the data set holds, without reading all of it; None (and the faults) where it cannot be read."""
    found = None
    before = len(faults)
    with checks.gather(faults):
        loader = plan.dataset.build()
        if len(faults) == before:
            loader.fetch()
            found = loader.describe()
    return found if len(faults) == before else None


def check_networks(plan: Plan, about: Description | None, faults: list[str]) -> None:
    """Builds both networks and the losses, reads the checkpoint, and pushes a few made-up pictures of the data's shape through all of them."""
    data = about or STAND_IN
    built: dict[str, Any] = {}
    for role, model in (("teacher", plan.teacher), ("student", plan.student)):
        if model:
            with checks.gather(faults):
                built[role] = models.build(model, shape=data.shape, classes=len(data.classes), mean=[0.5] * data.shape[0], std=[0.5] * data.shape[0])
    if plan.checkpoint:
        with checks.gather(faults):
            weights = plan.checkpoint.paths[0]
            load_weights(built["teacher"], weights) if about and "teacher" in built else read_weights(weights)
    student = built.get("student") or torch.nn.Identity()
    streams = {s: made_up(s, data) for s in available(plan, data)} if about and "student" in built else None
    for loss in (plan.teacher_loss, plan.loss, *(control.loss for control in plan.controls.values())):
        if loss:
            with checks.gather(faults):
                live = [Frozen(built["teacher"])] if "teacher" in built and reads_networks(loss) else []
                try_loss(loss, student, streams, data, live)
    if plan.select:
        with checks.gather(faults):
            plan.select.build()
            if plan.budget is None and plan.select.resolve().buys:
                checks.refuse("this rule buys answers, which is the recipe active: leave recipe= out, select= brings it along")
    if plan.loss and plan.student_train and streams and plan.student_train.spec["batch_size"] == 1:
        with checks.gather(faults):
            objective = plan.loss.resolve()
            read = {name: 1 for name in (*objective.uses, *objective.may_use) if name in streams}
            shares(1, read, None)


def available(plan: Plan, about: Description) -> list[str]:
    """Names of the streams that the data will have."""
    hidden = plan.sizes["labelled"] is not None or about.pool > 0
    pool = hidden and plan.sizes["unlabelled"] != 0
    return ["labelled"] + ["unlabelled"] * pool + ["validation"] * (plan.sizes["validation"] is not None)


def made_up(name: str, about: Description) -> Batch:
    index = torch.arange(ROWS)
    pictures = torch.rand(ROWS, *about.shape)
    y = None if name == "unlabelled" else index % len(about.classes)
    return Batch(name, index, torch.ones(ROWS, dtype=torch.int64), dict.fromkeys(("main", "clean", "second", "strong"), pictures), y)


def try_shift(name: str, shift: Component, about: Description, faults: list[str]) -> None:
    """Builds a shift, and looks at a made-up picture through it."""
    before = len(faults)
    with checks.gather(faults):
        step = shift.build()
    if len(faults) == before and not isinstance(step, Step):
        faults.append(f"shift.{name} needs a step of kdx.data.shift or kdx.data.augment; given {type(step).__name__}: see `kdx list shift`")
    if len(faults) == before:
        row = torch.zeros(1, dtype=torch.int64)
        with checks.gather(faults):
            step(torch.rand(1, *about.shape), Draws(0, "test", row, row + 1), name)


def try_loss(loss: Component, student: torch.nn.Module, streams: Mapping[str, Batch] | None, data: Description, live: list[Frozen]) -> None:
    """Builds a loss; with streams, one forward and backward pass, in eval mode so that batch normalisation takes two rows."""
    classes = len(data.classes)
    pictures = torch.randint(256, (ROWS, *data.shape), dtype=torch.uint8)
    validation = Split("validation", pictures, torch.arange(ROWS) % classes) if streams is None or "validation" in streams else None
    extras = dict.fromkeys(("mean", "std", "cool_mean", "cool_std"), lambda batch: torch.rand(len(batch), classes))
    parts = Parts(student, lambda: student, lambda batch: torch.randn(len(batch), classes), live, validation, classes, extras,
                  tuple(data.shape))  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caution)  # two made-up rows say nothing about the data
        push(loss.build(parts), streams, student)


def push(objective: Objective, streams: Mapping[str, Batch] | None, student: torch.nn.Module) -> None:
    if streams is None:
        return
    for name in objective.uses:
        if name not in streams:
            checks.refuse(missing_stream(type(objective).__name__, name, list(streams)))
            return
    objective.eval()
    objective.refresh()
    objective(streams, 0.0).loss.backward()
    student.zero_grad(set_to_none=True)


def check_room(order: Order, about: Description, faults: list[str]) -> None:
    """Whether the store's disk has room for the prepared data, the answers and the checkpoints."""
    plan = order.plan
    folder = checks.existing(order.store)
    needed = room(plan, about)
    free = shutil.disk_usage(folder).free
    if free < needed:
        faults.append(f"no space left for this run: it needs about {needed / 1e6:.0f} MB in {order.store}, and {free / 1e6:.0f} MB are free; "
                      "set store=PATH on another disk")  # fmt: skip


def room(plan: Plan, about: Description) -> int:
    """Bytes, about: pictures, stored answers up to the limit, and for each network its weights twice and a checkpoint of them."""
    height = about.shape[0] * about.shape[1] * about.shape[2]
    rows = about.train + (about.test or 0) + about.pool
    counts = {"labelled": max(1, min(about.train, _count(plan.sizes["labelled"], about.train))), "unlabelled": about.train + about.pool}
    spec = plan.student_train.spec
    seen = used(counts, spec["rows"] if isinstance(spec["rows"], int) else None)
    steps = total_steps(spec, sum(seen.values()), "student_train")
    views = passes(steps, shares(spec["batch_size"], seen, None), seen) if spec["batch_size"] > 1 else {}
    answers = min(stored_bytes(counts, views, len(about.classes)), plan.pseudo_label["limit"])
    networks = sum(8 * bytes_of(models.build(m, shape=about.shape, classes=len(about.classes), mean=[0.5] * about.shape[0], std=[0.5] * about.shape[0]))
                   for m in (plan.teacher, plan.student))  # fmt: skip
    copies = 2 if "ceiling" in plan.controls else 1  # of the pictures: the ceiling's data set is one of its own
    return copies * rows * height + answers + networks


def _count(size: Any, whole: int) -> int:
    return whole if size is None else size if isinstance(size, int) else round(size * whole)
