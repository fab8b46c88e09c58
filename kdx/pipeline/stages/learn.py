"""What every training stage does: build the parts, run the loop, checkpoint, validate, and lay down the
weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch._functorch.config as functorch
from safetensors.torch import load_file
from torch import nn

from kdx.core import shortage, signals
from kdx.core.errors import UserError
from kdx.core.examples import blank
from kdx.core.task import Fitness, Task
from kdx.core.trees import rows_of, tree
from kdx.core.types import Answers, Batch, Frozen, Objective, Parts, Split, Teacher
from kdx.data.splits import stratified
from kdx.data.streams import BatchLoader, Makers, Stream, as_trained
from kdx.data.views.chain import Chain, Mixer, Views
from kdx.methods.teachers import Stored, live_teacher
from kdx.models.fitting import WeightsNote
from kdx.models.weights import load_weights
from kdx.pipeline.stages.answers import digest_of_views, extras, stored_answers
from kdx.pipeline.stages.arrays import TRUTH, build_task, open_split, read_truth
from kdx.pipeline.stages.cautions import cautions
from kdx.pipeline.stages.files import about_model, new_network, open_network
from kdx.pipeline.stages.watch import Watch, go_on_with_threads, read_checkpoint
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.moved import kind_of_old
from kdx.store.source import Source
from kdx.store.store import Work, subseed
from kdx.training.length import shares, total_steps, used
from kdx.training.loop import Loop, NonFinite, fit
from kdx.training.runtime import Runtime
from kdx.training.settings import Training

LOGS = 40
"""How often a training stage logs."""


@dataclass(frozen=True)
class TrainInputs:
    """The inputs of a training stage, by the names that they have in its key.

    epoch: the splits that one epoch passes over. answers: stored labels; teachers: live ones. networks:
    teachers whose answers are stored, for the losses that read hidden features; no other opens them. rows:
    the rows of the pool that are used. checkpoint: a file of weights that the network begins with, and where
    in it they lie; init: whose last weights it begins with. class_weights: none, or balanced: see
    `kdx.core.task.Task.balanced`, over the labelled rows that are used.
    """

    data: Artifact
    model: Component
    loss: Component
    training: Component
    precision: str
    seed: int
    views_seed: int
    epoch: Sequence[str]
    answers: Artifact | None = None
    teachers: Sequence[Artifact] = ()
    view: str = "same"
    checkpoint: Source | None = None
    checkpoint_key: str | None = None
    rows: Artifact | None = None
    init: Artifact | None = None
    networks: Sequence[Artifact] = ()
    class_weights: str = "none"


@dataclass(frozen=True)
class Lesson:
    """A training stage before its first step. notes: what to tell of its checkpoint."""

    parts: Parts
    objective: Objective
    streams: Mapping[str, Stream]
    settings: Training
    loop: Loop
    notes: Sequence[WeightsNote]


def learn(work: Work, runtime: Runtime, inputs: TrainInputs) -> None:
    """Trains `model` on `data`.

    Files: rows.<name>.npy (N,) float32 for each monitor with one value a row of the pool: the last one seen,
    nan where none was; curves.json {name: {"x", "y"}} where the loss has estimated some;
    last.safetensors; with a validation split best.safetensors (the best on it) and validation.by_row.npy (N,)
    (`Task.by_row` of the last weights there); model.json, summary.json, metrics.jsonl.
    """
    saved = read_checkpoint(work, runtime)
    if saved:
        go_on_with_threads(saved["threads"], work)
    lesson, watch = prepare(work, runtime, inputs)
    start = 0
    if saved:
        try:
            start = watch.restore(saved)
        except Exception as error:  # of another version of torch, say: half of it may be restored
            if shortage.kind_of_shortage(error):
                raise
            work.begin_anew(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}")
            lesson, watch = prepare(work, runtime, inputs)
    for text, level in lesson.notes:
        work.note(text, level)
    done = go_through(work, lesson, watch, start)
    watch.publish(
        done,
        {name: done * stream.order.batch / stream.order.n for name, stream in lesson.streams.items()},
        views_of(inputs),
    )
    about = inputs.data.json("data.json")
    work.write_json("model.json", about_model(inputs.model, about))


def prepare(work: Work, runtime: Runtime, inputs: TrainInputs) -> tuple[Lesson, Watch]:
    with cautions(work):
        lesson = begin_training(work.name, runtime, inputs)
    return lesson, Watch(
        work,
        lesson.objective,
        lesson.loop,
        settings=lesson.settings,
        validation=lesson.parts.validation,
        task=lesson.parts.task,
        pool=inputs.data.json("data.json")["counts"].get("unlabelled", 0),
    )


def go_through(work: Work, lesson: Lesson, watch: Watch, start: int) -> int:
    """All steps from `start` on; returns the number of steps done in all."""
    loop = lesson.loop
    batches = iter(BatchLoader(lesson.streams, start=start, stop=loop.steps, workers=loop.runtime.workers))
    # a signal ends the step and saves; a second one stops at once
    with (
        contextlib.closing(batches),
        signals.held() as watch.interrupted,
        cautions(work),
    ):
        try:
            return fit(
                lesson.objective,
                batches,
                loop,
                start=start,
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


def begin_training(name: str, runtime: Runtime, inputs: TrainInputs) -> Lesson:
    """Builds all that one training needs."""
    settings: Training = inputs.training.build()
    task = build_task(inputs.data.json("data.json"))
    method = inputs.loss.resolve()
    Fitness(method.__name__, method.needs_task, "choose another loss").check(task)
    torch.manual_seed(inputs.seed)
    student, notes = first_weights(name, runtime, inputs)
    parts = parts_of(student, task, settings, runtime, inputs)
    objective: Objective = inputs.loss.build(parts).to(runtime.device)
    if runtime.compile:
        # else a term's own gradient, taken for the log, could not keep the graph
        functorch.donated_buffer = False
        student.compile()
    steps, per_epoch = lengths(inputs.training, inputs.data.json("data.json")["counts"], inputs.epoch, name)
    streams = open_streams(
        objective,
        inputs.data,
        settings,
        runtime,
        seed=inputs.views_seed,
        parts=parts,
        clean=inputs.view == "clean" and bool(inputs.teachers),
        rows=inputs.rows,
    )
    optimiser = settings.build_optimiser(p for p in objective.parameters() if p.requires_grad)
    loop = Loop(
        steps=steps,
        optimiser=optimiser,
        schedule=settings.build_schedule(optimiser, steps),
        clip=settings.clip,
        precision=inputs.precision,
        runtime=runtime,
        refresh_every=per_epoch,
        log_every=max(1, steps // LOGS),
    )
    return Lesson(parts, objective, streams, settings, loop, notes)


def first_weights(
    name: str, runtime: Runtime, inputs: TrainInputs
) -> tuple[nn.Module, Sequence[WeightsNote]]:
    """(the network before its first step, what to tell of its checkpoint)"""
    checkpoint = inputs.checkpoint
    student = new_network(inputs.model, inputs.data.json("data.json"), read_weights=checkpoint is None)
    role = "teacher" if name == "teacher-pretrain" else "student"
    notes = (
        load_weights(student, checkpoint.paths[0], key=inputs.checkpoint_key, role=role, new_head=True)
        if checkpoint
        else []
    )
    if inputs.init:
        student.load_state_dict(load_file(inputs.init.file("last.safetensors")))
    return runtime.place(student), notes


def parts_of(
    student: nn.Module, task: Task, settings: Training, runtime: Runtime, inputs: TrainInputs
) -> Parts:
    """What the objective is built from. Networks that are opened draw from torch's global generator: in this
    order.
    """
    data, answers, about = inputs.data, inputs.answers, inputs.data.json("data.json")
    validation = open_split(data, "validation", runtime)
    others = (*inputs.teachers, *(inputs.networks if reads_networks(inputs.loss) else ()))
    live = [Frozen(runtime.place(open_network(t))) for t in others]
    teacher: Teacher | None = None
    if inputs.teachers:
        teacher = live_teacher(live, "clean" if inputs.view == "clean" else "main", task)
    elif answers:
        teacher = stored_answers(answers, runtime.device, views_of(inputs), task)
    balanced = inputs.class_weights == "balanced"
    return Parts(
        student=student,
        new_student=lambda: runtime.place(
            new_network(inputs.model, about, read_weights=inputs.checkpoint is None)
        ),
        teacher=teacher,
        live_teachers=live,
        validation=validation,
        task=task,
        extras=extras(answers, runtime.device) if answers else {},
        teacher_size=answers.json("answers.json")["teacher_size"] if answers else None,
        example=blank(kind_of_old(about)["example"]),
        class_weights=task.balanced(truth_used(data, task, settings, inputs.views_seed))
        if balanced
        else None,
        validation_views=shown_in_training(validation, settings, runtime, inputs.views_seed),
    )


def views_of(inputs: TrainInputs) -> str:
    """The digest of the inputs that a training shows."""
    return digest_of_views(inputs.training.spec["augment"], inputs.views_seed)


def shown_in_training(
    validation: Split | None, settings: Training, runtime: Runtime, seed: int
) -> Callable[[], Iterator[Batch]] | None:
    """The validation rows as training shows rows; None where it shows clean ones, or mixes them."""
    chain = Chain(settings.augment)
    if validation is None or not len(chain) or chain.mixup is not None:
        return None
    return partial(as_trained, validation, Views(chain, seed), device=torch.device(runtime.device))


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
            seed=subseed(seed, "order", name),
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
    if few is None:
        return truth
    used_rows = torch.from_numpy(few)
    found: Answers = tree(lambda leaf: leaf[used_rows], truth)
    return found


def missing_stream(method: str, stream: str, found: list[str]) -> str:
    has = (
        f"this dataset has {' and '.join(repr(n) for n in found)} only" if found else "this dataset has none"
    )
    return (
        f"{method} needs the stream '{stream}'; {has}: set dataset.labelled=0.1, say, to "
        "hide the labels of the rest"
    )
