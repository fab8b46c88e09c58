"""What every training stage does: build the parts, run the loop, checkpoint, validate, and lay down the
weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch._functorch.config as functorch
from safetensors.torch import load_file

from kdx.core import shortage, signals
from kdx.core.errors import Fault
from kdx.core.math import balanced_weights
from kdx.core.types import Frozen, Objective, Parts, Split
from kdx.data.splits import some
from kdx.data.streams import Loader, Stream, as_trained
from kdx.data.views.augment import Chain, Mixup, Views
from kdx.methods.teachers import Stored, teach
from kdx.models.weights import Note, load_weights
from kdx.pipeline.stages.answers import extras, stored_answers
from kdx.pipeline.stages.cautions import cautions
from kdx.pipeline.stages.files import new_network, open_network, open_split
from kdx.pipeline.stages.watch import Watch, go_on_with_threads, read_checkpoint
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.source import Source
from kdx.store.store import Work, subseed
from kdx.training.length import shares, total_steps, used
from kdx.training.loop import NonFinite, fit
from kdx.training.runtime import Runtime
from kdx.training.settings import Training

LOGS = 40
"""How often a training stage logs."""


def learn(
    work: Work, runtime: Runtime, *, data: Artifact, model: Component, precision: str, **inputs: Any
) -> None:
    """Trains `model` on `data`; for the other inputs see `begin`.

    Files: rows.<name>.npy (N,) float32 for each monitor with one value a row of the pool: the last one seen,
    nan where none was; curves.json {name: {"x", "y"}} where the loss has estimated some;
    last.safetensors; with a validation split best.safetensors (the best on it) and validation.right.npy (N,)
    bool (which of its rows the last weights have right); model.json, summary.json, metrics.jsonl.
    """
    about = data.json("data.json")
    saved = read_checkpoint(work, runtime)
    if saved:
        go_on_with_threads(saved["threads"], work)

    def prepared() -> tuple[Lesson, Watch]:
        with cautions(work):
            lesson = begin(work.name, runtime, data=data, model=model, **inputs)
        return lesson, Watch(
            work,
            runtime,
            lesson.objective,
            lesson.optimiser,
            lesson.schedule,
            lesson.settings,
            precision,
            lesson.parts.validation,
            lesson.steps,
            pool=about["counts"].get("unlabelled", 0),
        )

    lesson, watch = prepared()
    start = 0
    if saved:
        try:
            start = watch.restore(saved)
        except Exception as error:  # of another version of torch, say: half of it may be restored
            if shortage.kind(error):
                raise
            work.begin_anew(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}")
            lesson, watch = prepared()
    for text, level in lesson.notes:
        work.note(text, level)
    objective, settings, steps = lesson.objective, lesson.settings, lesson.steps
    batches = iter(Loader(lesson.streams, start=start, stop=steps, workers=runtime.workers))
    # a signal ends the step and saves; a second one stops at once
    with (
        contextlib.closing(batches),
        signals.held() as watch.interrupted,
        cautions(work),
    ):
        try:
            done = fit(
                objective,
                batches,
                start=start,
                steps=steps,
                training=settings,
                precision=precision,
                runtime=runtime,
                optimiser=lesson.optimiser,
                schedule=lesson.schedule,
                refresh_every=lesson.per_epoch,
                log_every=max(1, steps // LOGS),
                log=lambda step, values: work.record({"step": step, **values}),
                after=watch.after,
                keep=watch.keep,
            )
        except NonFinite as error:
            node = "teacher_pretrain" if work.name == "teacher-pretrain" else "student_train"
            good = (
                f"the last good checkpoint, step {watch.saved_at}, is {work.checkpoint}"
                if watch.saved_at
                else "no checkpoint was made before"
            )
            raise NonFinite(f"{error}\n{good}; lower {node}.lr, or set {node}.clip=1") from error
    watch.publish(
        done, {name: done * stream.order.batch / stream.order.n for name, stream in lesson.streams.items()}
    )
    work.write_json(
        "model.json",
        {"component": model.spec, **{k: about[k] for k in ("shape", "classes", "mean", "std", "dataset")}},
    )


@dataclass(frozen=True)
class Lesson:
    """A training stage before its first step. per_epoch: steps of one pass over the splits that make up an
    epoch. notes: what to tell of its checkpoint.
    """

    parts: Parts
    objective: Objective
    streams: Mapping[str, Stream]
    settings: Training
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    steps: int
    per_epoch: int
    notes: Sequence[Note]


def begin(
    name: str,
    runtime: Runtime,
    *,
    data: Artifact,
    model: Component,
    loss: Component,
    training: Component,
    seed: int,
    views_seed: int,
    epoch: Sequence[str],
    answers: Artifact | None = None,
    teachers: Sequence[Artifact] = (),
    view: str = "same",
    checkpoint: Source | None = None,
    checkpoint_key: str | None = None,
    rows: Artifact | None = None,
    init: Artifact | None = None,
    networks: Sequence[Artifact] = (),
    class_weights: str = "none",
) -> Lesson:
    """Builds all that one training needs. epoch: the splits that one epoch passes over. answers: stored
    labels; teachers: live ones. networks: teachers whose answers are stored, for the losses that read hidden
    features; no other opens them. rows: the rows of the pool that are used. checkpoint: a file of weights
    that the network begins with, and where in it they lie; init: whose last weights it begins with.
    class_weights: none, or balanced: see `kdx.core.math.balanced_weights`, over the labelled rows that are
    used.
    """
    about = data.json("data.json")
    settings: Training = training.build()
    torch.manual_seed(seed)
    student = new_network(model, about, read_weights=checkpoint is None)
    role = "teacher" if name == "teacher-pretrain" else "student"
    notes = (
        load_weights(student, checkpoint.paths[0], key=checkpoint_key, role=role, new_head=True)
        if checkpoint
        else []
    )
    if init:
        student.load_state_dict(load_file(init.file("last.safetensors")))
    student = runtime.place(student)
    clean = view == "clean"
    validation, shown = open_split(data, "validation", runtime), Chain(settings.augment)
    moved = len(shown) > 0 and shown.mixup is None
    parts = Parts(
        student=student,
        new_student=lambda: runtime.place(new_network(model, about, read_weights=checkpoint is None)),
        teacher=stored_answers(answers, runtime.device) if answers and not teachers else None,
        live_teachers=[
            Frozen(runtime.place(open_network(t)))
            for t in (*teachers, *(networks if reads_networks(loss) else ()))
        ],
        validation=validation,
        num_classes=len(about["classes"]),
        extras=extras(answers, runtime.device) if answers else {},
        teacher_size=answers.json("answers.json")["teacher_size"] if answers else None,
        shape=tuple(about["shape"]),
        class_weights=balanced_weights(labels_used(data, settings, views_seed), len(about["classes"]))
        if class_weights == "balanced"
        else None,
        validation_views=partial(
            as_trained, validation, Views(shown, views_seed), device=torch.device(runtime.device)
        )
        if validation is not None and moved
        else None,
    )
    if teachers:
        parts = replace(parts, teacher=teach(parts.live_teachers, "clean" if clean else "main"))
    objective: Objective = loss.build(parts).to(runtime.device)
    if runtime.compile:
        functorch.donated_buffer = (
            False  # else a term's own gradient, taken for the log, could not keep the graph
        )
        student.compile()
    steps, per_epoch = lengths(training, about["counts"], epoch, name)
    streams = open_streams(
        objective,
        data,
        settings,
        runtime,
        seed=views_seed,
        parts=parts,
        clean=clean and bool(teachers),
        rows=rows,
    )
    optimiser = settings.build_optimiser(p for p in objective.parameters() if p.requires_grad)
    return Lesson(
        parts,
        objective,
        streams,
        settings,
        optimiser,
        settings.build_schedule(optimiser, steps),
        steps,
        per_epoch,
        notes,
    )


def lengths(
    training: Component, counts: Mapping[str, int], epoch: Sequence[str], name: str
) -> tuple[int, int]:
    """(optimiser steps of a training stage, steps of one epoch). counts: rows of each split."""
    kept = used(counts, training.spec["rows"])
    rows = sum(kept[split] for split in epoch)
    return total_steps(training.spec, rows, name), max(1, rows // training.spec["batch_size"])


def reads_networks(loss: Component) -> bool:
    """Whether a loss has terms on hidden features, for which the teacher's network is needed beside its
    answers.
    """
    features = loss.spec.get("features")
    return features is not None and Component(features).resolve().live


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
    """A stream for each split that the objective reads. Stored answers limit the views of a row to those that
    have an answer.
    """
    found: dict[str, Split] = {}
    for name in (*objective.uses, *objective.may_use):
        split = open_split(data, name, runtime)
        if split is not None:
            found[name] = split
        elif name in objective.uses:
            raise Fault(missing_stream(type(objective).__name__, name, list(found)))
    kept = {} if rows is None else {"unlabelled": torch.from_numpy(np.load(rows.file("rows.npy")))}
    if (
        "labelled" in found
        and (few := labelled_rows(found["labelled"].truth.cpu().numpy(), settings, seed)) is not None
    ):
        kept["labelled"] = torch.from_numpy(few)
    sizes = shares(
        settings.batch_size, {n: len(kept.get(n, s)) for n, s in found.items()}, settings.labelled_share
    )
    cycles: Mapping[str, int] = {}
    if isinstance(parts.teacher, Stored) and not parts.teacher.clean:
        cycles = {n: a.shape[1] for n, a in parts.teacher.answers.items()}
    views = Views(Chain(settings.augment), seed)
    strong = [
        *((name, step) for name, step in settings.augment if not isinstance(step, Mixup)),
        *settings.strong_augment,
    ]
    further = {
        "second": Views(Chain(settings.augment), subseed(seed, "second")),
        "strong": Views(Chain(strong), subseed(seed, "strong")),
    }
    extra = {name: views for name, views in further.items() if name in objective.extra_views}
    return {
        name: Stream(
            split,
            views,
            batch=sizes[name],
            seed=subseed(seed, "order", name),
            cycle=cycles.get(name),
            extra=extra,
            rows=kept.get(name),
            clean=clean or "clean" in objective.extra_views,
            device=torch.device(runtime.device),
            num_classes=parts.num_classes,
        )
        for name, split in found.items()
    }


def labelled_rows(labels: np.ndarray, settings: Training, seed: int) -> np.ndarray | None:
    """The labelled rows that a training with fewer of them uses; None: all."""
    return (
        some(labels, settings.rows, seed=subseed(seed, "rows"))
        if settings.rows is not None and settings.rows < len(labels)
        else None
    )


def labels_used(data: Artifact, settings: Training, seed: int) -> torch.Tensor:
    """(n,) classes of the labelled rows that are used."""
    labels = np.load(data.file("labelled.labels.npy"))
    few = labelled_rows(labels, settings, seed)
    return torch.from_numpy(labels if few is None else labels[few])


def missing_stream(method: str, stream: str, found: list[str]) -> str:
    has = (
        f"this dataset has {' and '.join(repr(n) for n in found)} only" if found else "this dataset has none"
    )
    return (
        f"{method} needs the stream '{stream}'; {has}: set dataset.labelled=0.1, say, to "
        "hide the labels of the rest"
    )
