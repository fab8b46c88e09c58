"""Checks before any work that need torch or a look at the data: what would stop a run in the night stops it in a second."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kdx import checks, models
from kdx.budget import passes, shares, stored_bytes, total_steps
from kdx.component import Component
from kdx.core import Batch, Objective, Parts
from kdx.data.raw import Description
from kdx.data.splits import check_sizes
from kdx.faults import Faults
from kdx.models.size import bytes as bytes_of
from kdx.models.weights import load_weights
from kdx.recipes import Plan
from kdx.stages.learn import missing_stream
from kdx.wiring import Order

ROWS = 2
"""Examples of each stream that are pushed through the networks and the loss."""


def preflight(order: Order) -> None:
    """Raises Faults with everything that is wrong, together. No file is written but what a data set downloads."""
    faults: list[str] = []
    plan = order.plan
    with checks.gather(faults):
        order.runtime.settle()
    description = describe(plan, faults)
    for node, training in (("teacher_pretrain", plan.teacher_pretrain), ("student_train", plan.student_train)):
        if training is not None:
            with checks.gather(faults, f"{node}."):
                training.build()
    if description is not None:
        sizes = check_sizes(description, **plan.sizes)
        faults += sizes
        with torch.random.fork_rng():
            torch.manual_seed(0)
            check_networks(plan, description, faults)
        if not sizes:
            check_room(order, description, faults)
    if faults:
        raise Faults(faults)


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


def check_networks(plan: Plan, about: Description, faults: list[str]) -> None:
    """Builds both networks and the losses, loads the checkpoint, and pushes a few made-up pictures of the data's shape through all of them."""
    built: dict[str, Any] = {}
    for role, model in (("teacher", plan.teacher), ("student", plan.student)):
        with checks.gather(faults):
            built[role] = models.build(model, shape=about.shape, classes=len(about.classes), mean=[0.5] * about.shape[0], std=[0.5] * about.shape[0])
    if plan.checkpoint and "teacher" in built:
        with checks.gather(faults):
            load_weights(built["teacher"], plan.checkpoint.paths[0])
    if len(built) < 2:
        return
    streams = {s: made_up(s, about) for s in available(plan, about)}
    for loss in (plan.teacher_loss, plan.loss, *plan.controls.values()):
        with checks.gather(faults):
            try_loss(loss, built["student"], streams, len(about.classes))


def available(plan: Plan, about: Description) -> list[str]:
    """Names of the streams that the data will have."""
    hidden = plan.sizes["labelled"] is not None or about.pool > 0
    pool = hidden and plan.sizes["unlabelled"] != 0
    return ["labelled"] + ["unlabelled"] * pool + ["validation"] * (plan.sizes["validation"] is not None)


def made_up(name: str, about: Description) -> Batch:
    index = torch.arange(ROWS)
    pictures = torch.rand(ROWS, *about.shape)
    y = None if name == "unlabelled" else index % len(about.classes)
    return Batch(name, index, torch.ones(ROWS, dtype=torch.int64), {"main": pictures, "clean": pictures}, y)


def try_loss(loss: Component, student: torch.nn.Module, streams: Mapping[str, Batch], classes: int) -> None:
    """One forward and backward pass of a loss, in eval mode so that batch normalisation takes two rows; leaves no gradient behind."""
    parts = Parts(student, lambda: student, lambda batch: torch.randn(len(batch), classes), [], None, classes)
    objective: Objective = loss.build(parts)
    for name in objective.uses:
        if name not in streams:
            checks.refuse(missing_stream(type(objective).__name__, name, list(streams)))
            return
    objective.eval()
    objective(streams, 0.0).loss.backward()
    student.zero_grad(set_to_none=True)


def check_room(order: Order, about: Description, faults: list[str]) -> None:
    """Whether the store's disk has room for the prepared data, the answers and the checkpoints."""
    plan = order.plan
    folder = existing(order.store)
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
    steps = total_steps(spec, sum(counts.values()), "student_train")
    views = passes(steps, shares(spec["batch_size"], counts, None), counts) if spec["batch_size"] > 1 else {}
    answers = min(stored_bytes(counts, views, len(about.classes)), plan.pseudo_label["limit"])
    networks = sum(8 * bytes_of(models.build(m, shape=about.shape, classes=len(about.classes), mean=[0.5] * about.shape[0], std=[0.5] * about.shape[0]))
                   for m in (plan.teacher, plan.student))  # fmt: skip
    return rows * height + answers + networks


def _count(size: Any, whole: int) -> int:
    return whole if size is None else size if isinstance(size, int) else round(size * whole)


def existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


