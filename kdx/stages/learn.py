"""What every training stage does: build the parts, run the loop, checkpoint, validate, and lay down the weights."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch._functorch.config as functorch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kdx.artifact import Artifact
from kdx.budget import shares, total_steps, used
from kdx.component import Component, Source
from kdx.core import Frozen, Objective, Outcome, Parts, Split, Streams
from kdx.data.augment import Chain, Views
from kdx.data.splits import some
from kdx.data.streams import Loader, Stream
from kdx.evaluate import predict, quick
from kdx.faults import Fault
from kdx.labels import Stored, extras, teach
from kdx.models.weights import load_weights
from kdx.runtime import Runtime
from kdx.stages.cautions import cautions
from kdx.stages.files import new_network, open_network, open_split
from kdx.store import Work, subseed
from kdx.trainer import NonFinite, Training, fit

LOGS, VALIDATIONS = 40, 20
"""How often a training stage logs and validates, unless told otherwise."""


def learn(work: Work, runtime: Runtime, *, data: Artifact, model: Component, precision: str, **inputs: Any) -> None:
    """Trains `model` on `data`; for the other inputs see `begin`.

    Files: rows.<name>.npy (N,) float32 for each monitor with one value a row of the pool: the last one seen, nan where none was;
    curves.json {name: {"x", "y"}} where the loss has estimated some;
    last.safetensors, best.safetensors (with a validation split: the best on it), model.json, summary.json, metrics.jsonl.
    """
    about = data.json("data.json")
    saved = read_checkpoint(work, runtime)
    if saved:
        go_on_with_threads(saved["threads"], work)
    with cautions(work):
        lesson = begin(work.name, runtime, data=data, model=model, **inputs)
    objective, settings, steps = lesson.objective, lesson.settings, lesson.steps
    watch = Watch(work, runtime, objective, lesson.optimiser, lesson.schedule, settings, precision, lesson.parts.validation, steps,
                  pool=about["counts"].get("unlabelled", 0))  # fmt: skip
    start = watch.restore(saved) if saved else 0
    work.rewind(start)
    batches = iter(Loader(lesson.streams, start=start, stop=steps, workers=runtime.workers))
    with contextlib.closing(batches), watch.until_interrupted(), cautions(work):
        try:
            done = fit(objective, batches, start=start, steps=steps, training=settings, precision=precision, runtime=runtime,
                       optimiser=lesson.optimiser, schedule=lesson.schedule, refresh_every=lesson.per_epoch, log_every=max(1, steps // LOGS),
                       log=lambda step, values: work.record({"step": step, **values}), after=watch.after, keep=watch.keep)  # fmt: skip
        except NonFinite as error:
            node = "teacher_pretrain" if work.name == "teacher-pretrain" else "student_train"
            good = f"the last good checkpoint, step {watch.saved_at}, is {work.checkpoint}" if watch.saved_at else "no checkpoint was made before"
            raise NonFinite(f"{error}\n{good}; lower {node}.lr, or set {node}.clip=1") from error
    watch.publish(done)
    work.write_json("model.json", {"component": model.spec, **{k: about[k] for k in ("shape", "classes", "mean", "std", "dataset")}})


@dataclass(frozen=True)
class Lesson:
    """A training stage before its first step. per_epoch: steps of one pass over the splits that make up an epoch."""

    parts: Parts
    objective: Objective
    streams: Mapping[str, Stream]
    settings: Training
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    steps: int
    per_epoch: int


def begin(name: str, runtime: Runtime, *, data: Artifact, model: Component, loss: Component, training: Component,
          seed: int, views_seed: int, epoch: Sequence[str], answers: Artifact | None = None, teachers: Sequence[Artifact] = (),
          view: str = "same", checkpoint: Source | None = None, rows: Artifact | None = None, init: Artifact | None = None,
          networks: Sequence[Artifact] = ()) -> Lesson:  # fmt: skip
    """Builds all that one training needs. epoch: the splits that one epoch passes over. answers: stored labels; teachers: live ones.
    networks: teachers whose answers are stored, for the losses that read hidden features; no other opens them. rows: the rows of the pool that are used.
    init: whose last weights the student begins with.
    """
    about = data.json("data.json")
    settings: Training = training.build()
    torch.manual_seed(seed)
    student = new_network(model, about)
    if checkpoint:
        load_weights(student, checkpoint.paths[0])
    if init:
        student.load_state_dict(load_file(init.file("last.safetensors")))
    student = runtime.place(student)
    clean = view == "clean"
    parts = Parts(
        student=student,
        new_student=lambda: runtime.place(new_network(model, about)),
        teacher=Stored.open(answers, runtime.device) if answers and not teachers else None,
        live_teachers=[Frozen(runtime.place(open_network(t))) for t in (*teachers, *(networks if reads_networks(loss) else ()))],
        validation=open_split(data, "validation", runtime),
        num_classes=len(about["classes"]),
        extras=extras(answers, runtime.device) if answers else {},
        teacher_size=answers.json("answers.json")["teacher_size"] if answers else None,
        shape=tuple(about["shape"]),
    )
    if teachers:
        parts = replace(parts, teacher=teach(parts.live_teachers, "clean" if clean else "main"))
    objective: Objective = loss.build(parts).to(runtime.device)
    if runtime.compile:
        functorch.donated_buffer = False  # else a term's own gradient, taken for the log, could not keep the graph
        student.compile()
    steps, per_epoch = lengths(training, about["counts"], epoch, name)
    streams = open_streams(objective, data, settings, runtime, seed=views_seed, parts=parts, clean=clean and bool(teachers), rows=rows)
    optimiser = settings.build_optimiser(p for p in objective.parameters() if p.requires_grad)
    return Lesson(parts, objective, streams, settings, optimiser, settings.build_schedule(optimiser, steps), steps, per_epoch)


def lengths(training: Component, counts: Mapping[str, int], epoch: Sequence[str], name: str) -> tuple[int, int]:
    """(optimiser steps of a training stage, steps of one epoch). counts: rows of each split."""
    kept = used(counts, training.spec["rows"])
    rows = sum(kept[split] for split in epoch)
    return total_steps(training.spec, rows, name), max(1, rows // training.spec["batch_size"])


def validate_every(asked: int | None, steps: int) -> int:
    """Steps between two looks at validation."""
    return asked or max(1, steps // VALIDATIONS)


def reads_networks(loss: Component) -> bool:
    """Whether a loss has terms on hidden features, for which the teacher's network is needed beside its answers."""
    features = loss.spec.get("features")
    return features is not None and Component(features).resolve().live


def read_checkpoint(work: Work, runtime: Runtime) -> dict[str, Any] | None:
    """What `Watch.save` wrote, or None. A file that cannot be read (a crash of the machine may leave one) costs its steps, not the run."""
    if not work.checkpoint.exists():
        return None
    try:
        return torch.load(work.checkpoint, map_location=runtime.device, weights_only=True)
    except Exception as error:  # torn bytes make the unpickler fail in any way
        why = (str(error).splitlines() or [type(error).__name__])[0]
        work.note(f"{work.name} begins anew: its checkpoint {work.checkpoint} cannot be read ({why})", "warning")
        return None


def open_streams(objective: Objective, data: Artifact, settings: Training, runtime: Runtime, *, seed: int, parts: Parts,
                 clean: bool, rows: Artifact | None) -> dict[str, Stream]:  # fmt: skip
    """A stream for each split that the objective reads. Stored answers limit the views of a row to those that have an answer."""
    found: dict[str, Split] = {}
    for name in (*objective.uses, *objective.may_use):
        split = open_split(data, name, runtime)
        if split is not None:
            found[name] = split
        elif name in objective.uses:
            raise Fault(missing_stream(type(objective).__name__, name, list(found)))
    kept = {} if rows is None else {"unlabelled": torch.from_numpy(np.load(rows.file("rows.npy")))}
    if settings.rows is not None and settings.rows < len(found.get("labelled", ())):
        kept["labelled"] = torch.from_numpy(some(found["labelled"].labels.cpu().numpy(), settings.rows, seed=subseed(seed, "rows")))
    sizes = shares(settings.batch_size, {n: len(kept.get(n, s)) for n, s in found.items()}, settings.labelled_share)
    cycles: Mapping[str, int] = {}
    if isinstance(parts.teacher, Stored) and not parts.teacher.clean:
        cycles = {n: a.shape[1] for n, a in parts.teacher.answers.items()}
    views = Views(Chain(settings.augment), seed)
    further = {"second": Views(Chain(settings.augment), subseed(seed, "second")), "strong": Views(Chain(settings.strong_augment), subseed(seed, "strong"))}
    extra = {name: views for name, views in further.items() if name in objective.extra_views}
    return {name: Stream(split, views, batch=sizes[name], seed=subseed(seed, "order", name), cycle=cycles.get(name), extra=extra, rows=kept.get(name),
                         clean=clean or "clean" in objective.extra_views, device=torch.device(runtime.device), num_classes=parts.num_classes)
            for name, split in found.items()}  # fmt: skip


def missing_stream(method: str, stream: str, found: list[str]) -> str:
    has = f"this dataset has {' and '.join(repr(n) for n in found)} only" if found else "this dataset has none"
    return f"{method} needs the stream '{stream}'; {has}: set dataset.labelled=100, say, to hide the labels of the rest"


def go_on_with_threads(threads: int, work: Work) -> None:
    """A sum's bits depend on the number of threads: a resumed stage takes the number that it began with."""
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
        work.note(f"{work.name} goes on with {threads} threads, as it began")


class Watch:
    """What happens after each step: validation, the best weights so far, early stopping, checkpoints, an interrupt that loses nothing."""

    def __init__(self, work: Work, runtime: Runtime, objective: Objective, optimiser: torch.optim.Optimizer,
                 schedule: torch.optim.lr_scheduler.LRScheduler, settings: Training, precision: str, validation: Split | None, steps: int,
                 pool: int):  # fmt: skip
        self.work, self.runtime, self.objective, self.optimiser, self.schedule = work, runtime, objective, optimiser, schedule
        self.settings, self.precision, self.validation, self.steps = settings, precision, validation, steps
        self.every = validate_every(settings.evaluate_every, steps)
        self.best: dict[str, Tensor] = {}
        self.best_step, self.best_accuracy, self.waited, self.stopped = 0, -1.0, 0, ""
        self.saved_at, self.clock, self.interrupted = 0, time.monotonic(), False
        self.text, self.pool, self.last_accuracy = "", pool, None
        self.by_row: dict[str, Tensor] = {}

    def after(self, step: int) -> bool:
        done = step + 1
        stop = False
        if self.validation is not None and (done % self.every == 0 or done == self.steps):
            stop = self.validate(step)
        self.work.progress(done, self.steps, self.text)
        due = time.monotonic() - self.clock >= self.runtime.checkpoint_seconds
        if not stop and done < self.steps and (due or self.interrupted):
            self.save(done)
        if self.interrupted:
            raise KeyboardInterrupt
        return stop

    def keep(self, streams: Streams, outcome: Outcome) -> None:
        """The last value of each row of the pool of the monitors that have one a row."""
        for name, values in outcome.monitors.items():
            if values.dim() == 1 and name.startswith("unlabelled/"):
                if name not in self.by_row:
                    self.by_row[name] = torch.full((self.pool,), math.nan, device=values.device)
                index = streams["unlabelled"].index.to(values.device, non_blocking=True)
                self.by_row[name][index] = values.detach().float()

    def validate(self, step: int) -> bool:
        """Records the accuracy, keeps the best weights; True where training should stop."""
        network = self.objective.export()
        found = quick(predict(network, self.validation, self.runtime, precision=self.precision), self.validation.labels)
        self.work.record({"step": step, **found})
        accuracy = self.last_accuracy = found["validation/accuracy"]
        self.text = f"validation {accuracy:.1%}"
        if accuracy > self.best_accuracy:
            self.best = plain_state(network)
            self.best_step, self.best_accuracy, self.waited = step + 1, accuracy, 0
        else:
            self.waited += 1
        if self.settings.target is not None and accuracy >= self.settings.target:
            self.stopped = "target"
        elif self.settings.patience is not None and self.waited >= self.settings.patience:
            self.stopped = "patience"
        return bool(self.stopped)

    def save(self, done: int) -> None:
        """All that the next step depends on, in one file, replaced at once."""
        state = {
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": done,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if self.runtime.device.startswith("cuda") else [],
            "threads": torch.get_num_threads(),
            "best": (self.best, self.best_step, self.best_accuracy, self.waited),
            "by_row": (self.by_row, self.last_accuracy),
        }
        if not all(torch.isfinite(p).all() for p in self.objective.parameters()):
            return
        temporary = self.work.checkpoint.with_suffix(".tmp")
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.work.checkpoint)
        self.clock, self.saved_at = time.monotonic(), done

    def restore(self, state: Mapping[str, Any]) -> int:
        self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"].cpu())
        if state["random_cuda"]:
            torch.cuda.set_rng_state_all([s.cpu() for s in state["random_cuda"]])
        self.best, self.best_step, self.best_accuracy, self.waited = state["best"]
        self.by_row, self.last_accuracy = state["by_row"]
        self.saved_at = state["step"]
        self.work.note(f"{self.work.name} goes on from step {self.saved_at} of {self.steps}")
        return self.saved_at

    @contextlib.contextmanager
    def until_interrupted(self) -> Iterator[None]:
        """The first Ctrl-C (or SIGTERM) ends the step, saves a checkpoint and stops; the second stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: Any) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def publish(self, done: int) -> None:
        save_file(plain_state(self.objective.export()), self.work.path / "last.safetensors")
        if self.best:
            save_file(self.best, self.work.path / "best.safetensors")
        for name, values in self.by_row.items():
            np.save(self.work.path / f"rows.{name.partition('/')[2]}.npy", values.cpu().numpy())
        curves = {name: {"x": x.tolist(), "y": y.tolist()} for name, (x, y) in self.objective.curves().items()}
        if curves:
            self.work.write_json("curves.json", curves)
        self.work.write_json("summary.json", {
            "validation_accuracy": self.last_accuracy,
            "steps": done, "planned_steps": self.steps, "stopped": self.stopped or None, "precision": self.precision,
            "best_step": self.best_step or None, "threads": torch.get_num_threads(), "device": self.runtime.device,
        })  # fmt: skip


def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights on the CPU, in the usual memory format."""
    return {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in network.state_dict().items()}
