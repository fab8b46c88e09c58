"""The only training loop. It names no method: what is minimised is an Objective, what happens around a step
is the caller's `after`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kdx.budget import LENGTH
from kdx.checks import choice, gather, integer, number, refuse, refuse_all, shown
from kdx.core import Objective, Outcome, Streams
from kdx.faults import Fault, in_short
from kdx.runtime import Runtime


class Training:
    """How a stage trains. Each argument is a key of `teacher_pretrain` and `student_train`.

    epochs, steps, length: see kdx/budget.py. rows: at most so many of the labelled examples, None: all.
    labelled_share: share of labelled rows in a batch, null: in proportion to their number. warmup: steps
    (int) or share of the training (0..1). milestones: shares of the training at which `schedule: step`
    multiplies by 0.1. clip: largest norm of the gradient, null: none. precision: fp32 | bf16 | auto.
    patience: validations without improvement after which training stops; target: validation accuracy in (0,
    1] at which it stops. evaluate_every: steps; null: 20 times in all.
    augment: pairs (name, Component), applied in this order. strong_augment: what the "strong" view of the
    methods that compare two views has after these.
    """

    def __init__(
        self,
        *,
        epochs: int | None,
        steps: int | None,
        length: str,
        batch_size: int,
        rows: int | None,
        labelled_share: float | None,
        optimiser: str,
        lr: float,
        momentum: float,
        weight_decay: float,
        schedule: str,
        warmup: int | float,
        milestones: list[float],
        clip: float | None,
        precision: str,
        patience: int | None,
        target: float | None,
        evaluate_every: int | None,
        augment: list[Any],
        strong_augment: list[Any],
    ):
        if not LENGTH.match(str(length)):
            raise Fault(f"length must read like '600 steps' or '200 epochs'; given: {shown(length)}")
        whole = {
            "epochs": epochs,
            "steps": steps,
            "rows": rows,
            "patience": patience,
            "evaluate_every": evaluate_every,
        }
        whole = {
            name: None if value is None else integer(name, value, low=1) for name, value in whole.items()
        }
        self.batch_size = integer("batch_size", batch_size, low=1)
        self.rows, self.patience, self.evaluate_every = (
            whole[name] for name in ("rows", "patience", "evaluate_every")
        )
        self.labelled_share = (
            None
            if labelled_share is None
            else number("labelled_share", labelled_share, low=0, high=1, open_low=True, open_high=True)
        )
        self.optimiser = choice("optimiser", optimiser, ("sgd", "adamw"))
        self.lr = number("lr", lr, low=0, open_low=True)
        self.momentum = number("momentum", momentum, low=0, high=1, open_high=True)
        self.weight_decay = number("weight_decay", weight_decay, low=0)
        self.schedule = choice("schedule", schedule, ("constant", "cosine", "one_cycle", "step"))
        if isinstance(warmup, int) and not isinstance(warmup, bool):
            self.warmup: int | float = integer("warmup", warmup, low=0)
        else:
            self.warmup = number("warmup", warmup, low=0, high=1, open_high=True)
        if not isinstance(milestones, list):
            refuse(
                "milestones must be a list of shares of the training, such as [0.5, 0.75]; given: "
                f"{shown(milestones)}"
            )
            milestones = []
        with gather(odd := []):
            self.milestones = [
                number("milestones", m, low=0, high=1, open_low=True, open_high=True) for m in milestones
            ]
        refuse_all(in_short(odd, "milestones"))
        self.clip = None if clip is None else number("clip", clip, low=0, open_low=True)
        self.precision = choice("precision", precision, ("fp32", "bf16", "auto"))
        self.target = None if target is None else number("target", target, low=0, high=1, open_low=True)
        self.augment = [(name, component.build()) for name, component in augment]
        self.strong_augment = [(name, component.build()) for name, component in strong_augment]

    def build_optimiser(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        if self.optimiser == "sgd":
            nesterov = self.momentum > 0
            return torch.optim.SGD(
                parameters,
                self.lr,
                self.momentum,
                weight_decay=self.weight_decay,
                nesterov=nesterov,
                fused=True,
            )
        return torch.optim.AdamW(parameters, self.lr, weight_decay=self.weight_decay, fused=True)

    def build_schedule(
        self, optimiser: torch.optim.Optimizer, steps: int
    ) -> torch.optim.lr_scheduler.LambdaLR:
        return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: self.factor(step, steps))

    def factor(self, step: int, steps: int) -> float:
        """What the learning rate is multiplied by at a step: linear warm-up, then the schedule over what is
        left.

        one_cycle (Smith and Topin 2018, arXiv 1708.07120): up from 1/25 over the first 30%, down to nearly 0,
        both by cosine.
        """
        if self.schedule == "one_cycle":
            top = 0.3 * steps
            if step < top:
                return _cosine(1 / 25, 1, step / top)
            return _cosine(1, 1e-4, (step - top) / (steps - top))
        warm = self.warmup if isinstance(self.warmup, int) else self.warmup * steps
        if step < warm:
            return (step + 1) / (warm + 1)
        if self.schedule == "cosine":
            return _cosine(1, 0, (step - warm) / max(steps - warm, 1))
        if self.schedule == "step":
            return 0.1 ** sum(step >= m * steps for m in self.milestones)
        return 1.0


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1))) / 2


NORMS_EVERY = 4
"""Each term's gradient costs a backward pass of its own, so where there are several it is taken at every
fourth logged step.
"""


class NonFinite(Fault):
    """A term of the loss became nan or infinite."""


def finite(outcome: Outcome, step: int) -> None:
    """Raises NonFinite, naming the terms, unless their sum is a finite number. One look at the sum: a term
    that is none spoils it too.
    """
    loss = outcome.loss.item()
    if not math.isfinite(loss):
        bad = [
            f"term '{name}' = {value.item()}"
            for name, value in outcome.terms.items()
            if not torch.isfinite(value)
        ]
        raise NonFinite(
            f"the loss is not finite at step {step}: {', '.join(bad) or f'the sum of its terms = {loss}'}"
        )


def norm(gradients: Iterable[Tensor | None]) -> float:
    """The L2 norm of all of them together."""
    return math.sqrt(sum(g.float().square().sum().item() for g in gradients if g is not None))


def gradient_norms(terms: Mapping[str, Tensor], parameters: list[nn.Parameter]) -> dict[str, float]:
    """The L2 norm of each term's gradient with respect to the student's parameters; 0 for a term that does
    not reach them.
    """
    norms = {}
    for name, term in terms.items():
        gradients = (
            torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
            if term.requires_grad
            else []
        )
        norms[name] = norm(gradients)
    return norms


def fit(
    objective: Objective,
    batches: Iterable,
    *,
    start: int,
    steps: int,
    training: Training,
    precision: str,
    runtime: Runtime,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    refresh_every: int,
    log_every: int,
    log: Callable[[int, Mapping[str, float]], None],
    after: Callable[[int], bool],
    keep: Callable[[Streams, Outcome], None] | None = None,
) -> int:
    """Optimises `objective` from step `start` to `steps` or until `after(step)` says stop; returns the number
    of steps done in all.

    batches yields the Streams of step `start` and on. `log` gets plain numbers, `keep` each step's outcome. A
    non-finite term raises NonFinite before the weights move (on an accelerator: at the next logged step, as
    looking at each would stall it).
    """
    student = list(objective.student.parameters())
    norms_every = NORMS_EVERY * log_every
    trained = [p for p in objective.parameters() if p.requires_grad]
    look_always = runtime.device == "cpu"
    objective.train()
    for step, streams in zip(range(start, steps), batches, strict=False):
        if step % refresh_every == 0:
            refreshed = objective.refresh()
            if refreshed:
                log(step, {f"refresh/{k}": v for k, v in refreshed.items()})
        with runtime.autocast(precision):
            outcome = objective(streams, step / steps)
        logging = step % log_every == 0 or step == steps - 1
        if logging or look_always:
            finite(outcome, step)
        several = len(outcome.terms) > 1  # else the step's own gradient is the term's
        norms = gradient_norms(outcome.terms, student) if several and step % norms_every == 0 else {}
        optimiser.zero_grad(set_to_none=True)
        outcome.loss.backward()
        if logging and not several:
            norms = {name: norm(p.grad for p in student) for name in outcome.terms}
        if training.clip is not None:
            nn.utils.clip_grad_norm_(trained, training.clip)
        rate = optimiser.param_groups[0]["lr"]
        optimiser.step()
        schedule.step()
        objective.after_step()
        if keep is not None:
            keep(streams, outcome)
        if logging:
            log(step, numbers(outcome, norms) | {"train/learning_rate": rate})
        if after(step):
            return step + 1
    return steps


def numbers(outcome: Outcome, norms: Mapping[str, float]) -> dict[str, float]:
    """A step's outcome as plain numbers, under the names that metrics.jsonl and TensorBoard show."""
    found = {"train/loss": outcome.loss.item()}
    found |= {f"train/term/{k}": v.item() for k, v in outcome.terms.items()}
    found |= {f"train/monitor/{k}": v.float().mean().item() for k, v in outcome.monitors.items()}
    return found | {f"gradient/{k}": v for k, v in norms.items()}
