"""What happens beside the steps of a training stage: validation, the best weights, checkpoints, an interrupt
that loses nothing.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kdx.core import shortage, signals
from kdx.core.metric import Metric
from kdx.core.task import Task
from kdx.core.together import by_itself
from kdx.core.trees import moved
from kdx.core.types import Objective, Outcome, Split, Streams
from kdx.store.work import Work
from kdx.tasks.shown import named_metric
from kdx.training.loop import Loop
from kdx.training.predict import Condensing, predict
from kdx.training.runtime import Runtime
from kdx.training.settings import Training

VALIDATIONS = 20
"""How often a training stage validates, unless set otherwise."""


def validate_every(asked: int | None, steps: int) -> int:
    """Steps between two looks at validation."""
    return asked or max(1, steps // VALIDATIONS)


def read_checkpoint(work: Work, runtime: Runtime) -> dict[str, Any] | None:
    """What `Watch.save` wrote, or None. A file that was changed or cannot be read costs its steps, not the
    run.
    """
    if not work.kept():
        return None
    try:
        return torch.load(work.checkpoint, map_location=runtime.device, weights_only=True)
    except Exception as error:  # another version of torch, or a device that is not here
        if shortage.kind_of_shortage(error):
            raise
        work.begin_anew((str(error).splitlines() or [type(error).__name__])[0][:200])
        return None


def go_on_with_threads(threads: int, work: Work) -> None:
    """A sum's bits depend on the number of threads: a resumed stage takes the number that it began with."""
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
        several = "one thread" if threads == 1 else f"{threads} threads"
        work.note(f"{work.name} goes on with {several}, as it began")


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Writes it through to the disk."""
    with path.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())


class Watch:
    """What happens after each step: validation, the best weights so far, early stopping, checkpoints, an
    interrupt that loses nothing. pool: rows of the pool.
    """

    def __init__(
        self,
        work: Work,
        objective: Objective,
        loop: Loop,
        *,
        settings: Training,
        validation: Split | None,
        task: Task,
        pool: int,
    ):
        self.work, self.objective, self.loop = work, objective, loop
        self.settings, self.validation, self.pool = settings, validation, pool
        self.task, self.metric = task, task.metric
        self.every = validate_every(settings.evaluate_every, loop.steps)
        self.best: dict[str, Tensor] = {}
        self.best_step, self.waited, self.stopped = 0, 0, ""
        self.best_score: float | None = None
        self.saved_at, self.clock = 0, time.monotonic()
        self.interrupted: Callable[[], bool] = lambda: False
        self.last_score: float | None = None
        self.by_row: dict[str, Tensor] = {}
        self.rows: Tensor | None = None
        self.best_rows: Tensor | None = None

    def after(self, step: int) -> bool:
        done = step + 1
        stop = False
        ranks = self.loop.ranks
        if self.validation is not None and (done % self.every == 0 or done == self.loop.steps):
            if ranks.first:
                with by_itself():  # the others do not ask meanwhile
                    stop = self.validate(step, self.validation)
            stop = ranks.say(stop)
        if not ranks.first:
            return stop
        self.work.progress(done, self.loop.steps)
        due = time.monotonic() - self.clock >= self.loop.runtime.checkpoint_seconds
        if stop or done == self.loop.steps:
            return stop  # all that is left is to publish: a signal stops what comes after
        interrupted = self.interrupted()
        if due or interrupted:
            self.save(done)
        if interrupted:
            signals.raise_if_stopped()
        return stop

    def keep(self, streams: Streams, outcome: Outcome) -> None:
        """The last value of each row of the pool of the monitors that have one a row."""
        for name, values in outcome.watched(logging=False).items():
            if values.dim() == 1 and name.startswith("unlabelled/"):
                if name not in self.by_row:
                    self.by_row[name] = torch.full((self.pool,), math.nan, device=values.device)
                ranks = self.loop.ranks
                index = moved(streams["unlabelled"].index, values.device)
                self.by_row[name][ranks.rows(index)] = ranks.rows(values.detach().float())

    def validate(self, step: int, split: Split) -> bool:
        """Records the metric that counts, keeps the best weights; True where training should stop."""
        network = self.objective.export()
        kept, loop = Condensing(self.task), self.loop
        answers = predict(network, split, loop.runtime, precision=loop.precision, batch=kept.batch, kept=kept)
        found = self.task.quick(answers, split.known)
        self.rows = self.task.by_row(answers, split.known)
        values = {f"validation/{name}": value for name, value in found.items()}
        self.work.record({"step": step, **values, **shown_as(self.metric)})
        score = self.last_score = found[self.metric.name]
        if self.metric.better(score, self.best_score):
            self.best = plain_state(network)
            self.best_step, self.best_score, self.waited = step + 1, score, 0
            self.best_rows = self.rows
        else:
            self.waited += 1
        target = self.settings.target
        if target is not None and self.metric.gain(score, target) >= 0:
            self.stopped = "target"
        elif self.settings.patience is not None and self.waited >= self.settings.patience:
            self.stopped = "patience"
        return bool(self.stopped)

    def state(self, done: int) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "objective": self.objective.state_dict(),
            "optimiser": self.loop.optimiser.state_dict(),
            "schedule": self.loop.schedule.state_dict(),
            "step": done,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all()
            if self.loop.runtime.device.startswith("cuda")
            else [],
            "threads": torch.get_num_threads(),
            "best": (self.best, self.best_step, self.best_score, self.waited),
            "by_row": (self.by_row, self.last_score),
            "best_rows": self.best_rows,
            "reported": self.work.so_far(),
        }

    def finite(self) -> bool:
        return all(bool(torch.isfinite(p).all()) for p in self.objective.parameters())

    def save(self, done: int) -> None:
        """All that the next step depends on, in one file, replaced at once."""
        if not self.finite():
            return
        temporary = self.work.checkpoint.with_suffix(".tmp")
        write_state(temporary, self.state(done))
        self.work.keep(temporary)
        self.clock, self.saved_at = time.monotonic(), done

    def take_over(self, state: Mapping[str, Any]) -> None:
        """The part of it that is the same in all processes that train together."""
        self.objective.load_state_dict(state["objective"])
        self.loop.optimiser.load_state_dict(state["optimiser"])
        self.loop.schedule.load_state_dict(state["schedule"])

    def restore(self, state: Mapping[str, Any]) -> int:
        self.take_over(state)
        torch.set_rng_state(state["random"].cpu())
        if state["random_cuda"]:
            torch.cuda.set_rng_state_all([s.cpu() for s in state["random_cuda"]])
        self.best, self.best_step, self.best_score, self.waited = state["best"]
        self.by_row, self.last_score = state["by_row"]
        self.best_rows = state["best_rows"]
        self.saved_at = state["step"]
        self.work.report_again(state["reported"])
        self.work.note(f"{self.work.name} goes on from step {self.saved_at} of {self.loop.steps}")
        return self.saved_at

    def publish(self, done: int, passes: Mapping[str, float], views: str) -> None:
        """passes: how often the rows of each stream were gone through. views: the digest of the inputs that
        were shown, see kdx.pipeline.stages.answers.digest_of_views.
        """
        save_file(plain_state(self.objective.export()), self.work.path / "last.safetensors")
        if self.best:
            save_file(self.best, self.work.path / "best.safetensors")
        if self.rows is not None:
            np.save(self.work.path / "validation.by_row.npy", self.rows.numpy())
        if self.best_rows is not None:
            np.save(self.work.path / "validation.best_by_row.npy", self.best_rows.cpu().numpy())
        for name, values in self.by_row.items():
            np.save(self.work.path / f"rows.{name.partition('/')[2]}.npy", values.cpu().numpy())
        curves = {
            name: {"x": x.tolist(), "y": y.tolist()} for name, (x, y) in self.objective.curves().items()
        }
        if curves:
            self.work.write_json("curves.json", curves)
        beside = {name: dict(found) for name, found in self.objective.beside().items()}
        self.work.write_json(
            "summary.json",
            {
                "validation_score": self.last_score,
                "steps": done,
                "planned_steps": self.loop.steps,
                "stopped": self.stopped or None,
                "precision": self.loop.precision,
                "best_step": self.best_step or None,
                "passes": dict(passes),
                "views": views,
                "threads": torch.get_num_threads(),
                "device": self.loop.runtime.device,
                **({"beside": beside} if beside else {}),
            },
        )


def shown_as(metric: Metric) -> dict[str, Any]:
    """What a record says of the metric of validation: nothing where its name tells all."""
    return {} if named_metric(metric.name) == metric else {"metric": metric.document()}


def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights, each as `plain_tensor` has it."""
    return {k: plain_tensor(v) for k, v in network.state_dict().items()}


def plain_tensor(value: Tensor) -> Tensor:
    """A copy on the CPU, in the usual memory format."""
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)
