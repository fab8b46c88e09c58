"""The rows that a training passes over: its streams, its steps, and the labelled rows that it uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from kdx.core.errors import UserError
from kdx.core.task import Task
from kdx.core.trees import picked, rows_of, tree
from kdx.core.types import Answers, Objective, Parts, Split
from kdx.data.splits import stratified
from kdx.data.streams import Makers, Stream
from kdx.data.views.chain import Chain, Mixer, Views
from kdx.methods.teachers import Stored
from kdx.pipeline.stages.arrays import IN_TIME, TRUTH, open_split, read_truth
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.stage import subseed
from kdx.training.length import SIZES, shares, total_steps, used
from kdx.training.runtime import Runtime
from kdx.training.settings import Training


def lengths(
    training: Component, counts: Mapping[str, int], epoch: Sequence[str], name: str
) -> tuple[int, int]:
    """(optimiser steps of a training stage, steps of one epoch). counts: rows of each split."""
    kept = used(counts, training.spec["rows"])
    rows = sum(kept[split] for split in epoch)
    return total_steps(training.spec, rows, name), max(1, rows // training.spec["batch_size"])


def open_streams(
    objective: Objective,
    data: Artifact,
    settings: Training,
    runtime: Runtime,
    *,
    seed: int,
    parts: Parts,
    clean: bool,
    rows: Artifact | None,
) -> dict[str, Stream]:
    """A stream for each split that the objective reads, in the order of time where the data say so. Stored
    answers limit the views of a row to those that have an answer.
    """
    found: dict[str, Split] = {}
    for name in (*objective.uses, *objective.may_use):
        split = open_split(data, name, runtime)
        if split is not None:
            found[name] = split
        elif name in objective.uses:
            raise UserError(missing_stream(type(objective).__name__, name, list(found)))
    kept = {} if rows is None else {"unlabelled": torch.from_numpy(np.load(rows.file("rows.npy")))}
    if (
        "labelled" in found
        and (few := labelled_rows(found["labelled"].known, parts.task, settings, seed)) is not None
    ):
        kept["labelled"] = torch.from_numpy(few)
    sizes = shares(
        settings.batch_size, {n: len(kept.get(n, s)) for n, s in found.items()}, settings.labelled_share
    )
    cycles: Mapping[str, int] = {}
    if isinstance(parts.teacher, Stored) and not parts.teacher.clean:
        cycles = {n: parts.teacher.views(n) for n in parts.teacher.answers}
    strong = [
        *((name, step) for name, step in settings.augment if not isinstance(step, Mixer)),
        *settings.strong_augment,
    ]
    further = {
        "second": Views(Chain(settings.augment), subseed(seed, "second")),
        "strong": Views(Chain(strong), subseed(seed, "strong")),
    }
    makers = Makers(
        Views(Chain(settings.augment), seed),
        {name: views for name, views in further.items() if name in objective.extra_views},
        clean=clean or "clean" in objective.extra_views,
    )
    return {
        name: Stream(
            split,
            makers,
            batch=sizes[name],
            seed=None if data.json("data.json").get(IN_TIME) else subseed(seed, "order", name),
            cycle=cycles.get(name),
            rows=kept.get(name),
            device=torch.device(runtime.device),
            task=parts.task,
        )
        for name, split in found.items()
    }


def labelled_rows(truth: Answers, task: Task, settings: Training, seed: int) -> np.ndarray | None:
    """The labelled rows that a training with fewer of them uses; None: all."""
    rows = rows_of(truth)
    if settings.rows is None or settings.rows >= rows:
        return None
    groups = task.strata(tree(lambda leaf: leaf.cpu().numpy(), truth))
    return stratified(
        np.zeros(rows, np.int64) if groups is None else groups, settings.rows, seed=subseed(seed, "rows")
    )


def truth_used(data: Artifact, task: Task, settings: Training, seed: int) -> Answers:
    """The truth of the labelled rows that are used."""
    truth: Answers = read_truth(data, f"labelled.{TRUTH}")
    few = labelled_rows(truth, task, settings, seed)
    return truth if few is None else picked(truth, torch.from_numpy(few))


def missing_stream(method: str, stream: str, found: list[str]) -> str:
    has = (
        f"this dataset has {' and '.join(repr(n) for n in found)} only" if found else "this dataset has none"
    )
    remedy = (
        "choose a recipe that lays such rows down, or another loss"
        if stream not in SIZES
        else "set dataset.labelled=0.1, say, to hide the labels of the rest, or pool=NAME for rows of another"
    )
    return f"{method} needs the stream '{stream}'; {has}: {remedy}"
