"""What every training stage does: build the parts, run the loop, checkpoint, validate, and lay down the
weights.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch._functorch.config as functorch
from torch import nn

from kdx.core import shortage, signals
from kdx.core.batch_norm import batch_norms
from kdx.core.errors import Caution, UserError
from kdx.core.fitness import Fitness
from kdx.core.types import Objective, Parts
from kdx.data.streams import BatchLoader, Stream
from kdx.models.estimator import ONLY_TEACHERS, is_estimator
from kdx.models.fitting import WeightsNote
from kdx.pipeline.stages.acquaint import meet_rows
from kdx.pipeline.stages.arrays import build_task, dear_to_read
from kdx.pipeline.stages.ask_again import ask_again
from kdx.pipeline.stages.beside import write_beside
from kdx.pipeline.stages.cautions import cautions
from kdx.pipeline.stages.files import about_model
from kdx.pipeline.stages.onward import go_on, hand_on, read_onward
from kdx.pipeline.stages.parts import TrainInputs, first_weights, parts_of, views_of
from kdx.pipeline.stages.streams import lengths, open_streams
from kdx.pipeline.stages.watch import Watch, go_on_with_threads, read_checkpoint
from kdx.store.component import Component
from kdx.store.stage import split_number
from kdx.store.work import Listener, Work
from kdx.training.depth import groups_by_depth
from kdx.training.loop import Loop, NonFinite, check_accumulate, check_groups, fit
from kdx.training.ranks import ONE_PROCESS, Ranks, share_out
from kdx.training.runtime import Runtime
from kdx.training.settings import Training
from kdx.training.team import scratch, trained_together

LOGS = 40
"""How often a training stage logs."""


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
    (`Task.by_row` of the last weights there), validation.best_by_row.npy (of the best); model.json,
    summary.json, metrics.jsonl; what the loss learned, and a teacher that moved
    (kdx.pipeline.stages.beside). Of a part of a training, which ends before `inputs.stop`, onward.pt too
    (kdx.pipeline.stages.onward).
    """
    with trained_together(runtime, __name__, work.name, inputs) as (ranks, own):
        _learn(work, own, inputs, ranks)


def _learn(work: Work, runtime: Runtime, inputs: TrainInputs, ranks: Ranks) -> None:
    saved = read_checkpoint(work, runtime)
    handed = read_onward(inputs.onward, runtime) if inputs.onward else None
    if begun := saved or handed:
        go_on_with_threads(begun["threads"], work)
    if not saved:
        ask_again(inputs, runtime, build_task(inputs.data.json("data.json")))
    lesson, watch = prepare(work, runtime, inputs, ranks)
    start = 0
    if saved:
        try:
            start = watch.restore(saved)
        except Exception as error:  # of another version of torch, say: half of it may be restored
            if shortage.kind_of_shortage(error):
                raise
            work.begin_anew(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}")
            lesson, watch = prepare(work, runtime, inputs, ranks)
    if handed and not start:
        start = go_on(watch, handed)
    for text, level in lesson.notes:
        work.note(text, level)
    ranks.say({"stopped": watch.stopped})
    done = start if watch.stopped else go_on_together(work, lesson, watch, start, inputs)
    if inputs.stop is not None:
        hand_on(watch, done)
    watch.publish(
        done,
        {name: stream.order.passed(done) for name, stream in lesson.streams.items()},
        views_of(inputs),
    )
    if inputs.stop is None and (why := lesson.objective.ended(max(done - 1, 0) / lesson.loop.steps)):
        work.note(why, "warning")
    write_beside(work, lesson.objective, inputs)
    about = inputs.data.json("data.json")
    made = Component(lesson.objective.describe_export(inputs.model.spec))
    work.write_json("model.json", about_model(made, about))


def go_on_together(work: Work, lesson: Lesson, watch: Watch, start: int, inputs: TrainInputs) -> int:
    """All steps from `start` on, by all processes that train; returns the number of steps done in all."""
    ranks, objective = lesson.loop.ranks, lesson.objective
    start, state = ranks.say((start, watch.state(start) if start and not ranks.alone else None))
    if state and not ranks.first:
        watch.take_over(state)
    ranks.same(itertools.chain(objective.parameters(), objective.buffers()))
    networks = [objective.student, *(frozen.network for frozen in lesson.parts.live_teachers)]
    with ranks.sharing(networks):
        return go_through(work, lesson, watch, start, inputs.stop)


def follow(ranks: Ranks, name: str, runtime: Runtime, inputs: TrainInputs) -> None:
    """What a process beside the first does in its `learn`: the same steps, and nothing is written."""
    with tempfile.TemporaryDirectory(prefix="kdx-follows-", dir=scratch()) as place:
        work = Work(Path(place), name, Listener())
        lesson, watch = prepare(work, runtime, inputs, ranks)
        if not ranks.say(None)["stopped"]:
            go_on_together(work, lesson, watch, 0, inputs)


def prepare(work: Work, runtime: Runtime, inputs: TrainInputs, ranks: Ranks) -> tuple[Lesson, Watch]:
    with cautions(work):
        lesson = begin_training(work.name, runtime, inputs, ranks)
        if begins_fresh(inputs) and (why := lesson.objective.cold_student()):
            warnings.warn(Caution(why), stacklevel=1)
    return lesson, Watch(
        work,
        lesson.objective,
        lesson.loop,
        settings=lesson.settings,
        validation=lesson.parts.validation,
        task=lesson.parts.task,
        pool=inputs.data.json("data.json")["counts"].get("unlabelled", 0),
    )


def begins_fresh(inputs: TrainInputs) -> bool:
    """Whether nothing was learned by the weights that a training begins with."""
    spec = inputs.model.spec
    given = inputs.checkpoint or inputs.init or inputs.onward or inputs.through
    return not (given or spec.get("weights") or spec.get("pretrained"))


def go_through(work: Work, lesson: Lesson, watch: Watch, start: int, stop: int | None = None) -> int:
    """All steps from `start` on, to `stop`, None: to the end; returns the number of steps done in all."""
    loop = lesson.loop
    # rows that are dear to read are read ahead in any case
    ahead = any(dear_to_read(stream.split, loop.runtime) for stream in lesson.streams.values())
    workers = max(loop.runtime.workers, int(ahead))
    last = loop.steps if stop is None else min(stop, loop.steps)
    batches = iter(BatchLoader(lesson.streams, start=start, stop=max(start, last), workers=workers))
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
            node = node_of(work.name)
            good = (
                f"the last good checkpoint, step {watch.saved_at}, is {work.checkpoint}"
                if watch.saved_at
                else "no checkpoint was made before"
            )
            raise NonFinite(f"{error}\n{good}; lower {node}.lr, or set {node}.clip=1") from error


def node_of(stage: str) -> str:
    """The node that holds the settings of a training stage."""
    return "teacher_pretrain" if split_number(stage)[0].startswith("teacher-") else "student_train"


def build_objective(parts: Parts, inputs: TrainInputs) -> Objective:
    """The loss, inside of what moves its teacher where one moves."""
    made: Objective = (
        inputs.moving.build(parts, loss=inputs.loss) if inputs.moving else inputs.loss.build(parts)
    )
    return made


def normalised_together(network: nn.Module, runtime: Runtime, ranks: Ranks, rows: int) -> nn.Module:
    """The same network, whose batch normalisation takes its statistics over the rows of all processes, where
    that is asked for; where it is not, that is said."""
    if ranks.alone or not batch_norms(network):
        return network
    if runtime.sync_batch_norm:
        if not runtime.device.startswith("cuda"):
            raise UserError(
                "device.sync_batch_norm=true is torch's SyncBatchNorm, which needs CUDA devices: leave it "
                "out, or choose a network without batch normalisation"
            )
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    on_gpus = ", or set device.sync_batch_norm=true" if runtime.device.startswith("cuda") else ""
    warnings.warn(
        Caution(
            f"batch normalisation takes its statistics over the rows of one process, {rows // ranks.count} "
            f"of {rows}, so that the result depends on their number: choose a network without{on_gpus}"
        ),
        stacklevel=1,
    )
    return network


def begin_training(name: str, runtime: Runtime, inputs: TrainInputs, ranks: Ranks = ONE_PROCESS) -> Lesson:
    """Builds all that one training needs, for one of the processes that train together."""
    settings: Training = inputs.training.build()
    meet_rows([*settings.augment, *settings.strong_augment], inputs.data, runtime)
    task = build_task(inputs.data.json("data.json"))
    method = inputs.loss.resolve()
    Fitness(method.__name__, method.needs_task, "choose another loss").check(task)
    if is_estimator(inputs.model):
        raise UserError(f"{inputs.model.target} is fitted at once, and not trained by steps: {ONLY_TEACHERS}")
    torch.manual_seed(inputs.seed)
    student, notes = first_weights(name, runtime, inputs)
    student = normalised_together(student, runtime, ranks, settings.batch_size)
    parts = parts_of(student, task, settings, runtime, inputs)
    objective = build_objective(parts, inputs).to(runtime.device)
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
    sizes = {stream: found.order.batch for stream, found in streams.items()}
    even = all(stream.order.even for stream in streams.values())
    ranks = share_out(ranks, objective, sizes, even, inputs.seed)
    for stream in streams.values():
        stream.part = ranks.part
    if not (ranks.alone or ranks.whole):
        sizes = {stream: size // ranks.count for stream, size in sizes.items()}
    check_accumulate(f"{node_of(name)}.accumulate", settings.accumulate, objective, objective, sizes)
    groups = groups_by_depth(check_groups(objective), student, settings, steps)
    optimiser = settings.build_optimiser(groups)
    loop = Loop(
        steps=steps,
        optimiser=optimiser,
        schedule=settings.build_schedule(optimiser, steps),
        clip=settings.clip,
        precision=inputs.precision,
        runtime=runtime,
        refresh_every=per_epoch,
        log_every=max(1, steps // LOGS),
        accumulate=settings.accumulate,
        ranks=ranks,
    )
    return Lesson(parts, objective, streams, settings, loop, notes)
