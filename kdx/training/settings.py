"""How a stage trains: the keys of `teacher_pretrain` and `student_train`, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from kdx.core.checks import choice, gather, integer, number, refuse, refuse_all, shown
from kdx.core.errors import UserError, in_short
from kdx.core.types import ParameterGroup
from kdx.core.uncompiled import uncompiled
from kdx.training.length import LENGTH


def _warmup(value: Any) -> int | float:
    """Steps, or a share of the training."""
    if isinstance(value, int) and not isinstance(value, bool):
        return integer("warmup", value, low=0)
    return number("warmup", value, low=0, high=1, open_high=True)


def _head_first(value: Any) -> int | float:
    """Steps, or a share of the training; 1.0 is all of it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return integer("head_first", value, low=0)
    return number("head_first", value, low=0, high=1)


def _milestones(values: Any) -> list[float]:
    """Shares of the training."""
    if not isinstance(values, list):
        refuse(
            "milestones must be a list of shares of the training, such as [0.5, 0.75]; given: "
            f"{shown(values)}"
        )
        values = []
    found: list[float] = []
    with gather(odd := []):
        found = [number("milestones", m, low=0, high=1, open_low=True, open_high=True) for m in values]
    refuse_all(in_short(odd, "milestones"))
    return found


class Training:
    """How a stage trains. Each argument is a key of `teacher_pretrain` and `student_train`.

    epochs, steps, length: see kdx/training/length.py. rows: at most so many of the labelled examples, None:
    all. labelled_share: share of labelled rows in a batch, null: in proportion to their number. warmup: steps
    (int) or share of the training (0..1). milestones: shares of the training at which `schedule: step`
    multiplies by 0.1. clip: largest norm of the gradient, of each group of parameters by itself, null: none.
    precision: fp32 | bf16 | auto. patience: validations without improvement after which training stops;
    target: value on validation of the metric that counts at which it stops, as the metric allows (of accuracy
    in (0, 1]). evaluate_every: steps; null: 20 times in all. augment: pairs (name, Component), applied in
    this order. strong_augment: what the "strong" view of the methods that compare two views has after these.
    accumulate: in how many parts a batch is passed through the network, for one step of the optimiser; 1, and
    then no key of an artifact holds it: all at once. head_first: steps (int), or a share of the training
    (0..1), in which the last layer moves alone. layer_decay: in (0, 1], the rate of each layer is so many
    times that of the next one (kdx.training.depth). These two enter a key only where they are not 0 and 1.
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
        accumulate: int = 1,
        head_first: int | float = 0,
        layer_decay: float = 1,
    ):
        if not LENGTH.match(str(length)):
            raise UserError(f"length must read like '600 steps' or '200 epochs'; given: {shown(length)}")
        self.accumulate = integer("accumulate", accumulate, low=1)
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
        self.warmup = _warmup(warmup)
        self.head_first = _head_first(head_first)
        self.layer_decay = number("layer_decay", layer_decay, low=0, high=1, open_low=True)
        self.milestones = _milestones(milestones)
        self.clip = None if clip is None else number("clip", clip, low=0, open_low=True)
        self.precision = choice("precision", precision, ("fp32", "bf16", "auto"))
        self.target = None if target is None else number("target", target)
        self.augment = [(name, component.build()) for name, component in augment]
        self.strong_augment = [(name, component.build()) for name, component in strong_augment]

    def build_optimiser(self, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
        """One for all groups; each of its groups holds the name and turns of one, by which the loop goes."""
        parameters = [
            {
                "params": list(group.parameters),
                "lr": self.lr * group.rate,
                "name": group.name,
                "every": group.every,
                "at": group.at,
                **({"begins": group.begins} if group.begins else {}),
            }
            for group in groups
        ]
        made: torch.optim.Optimizer
        if self.optimiser == "sgd":
            made = uncompiled(torch.optim.SGD)(
                parameters,
                self.lr,
                self.momentum,
                weight_decay=self.weight_decay,
                nesterov=self.momentum > 0,
                fused=True,
            )
        else:
            made = uncompiled(torch.optim.AdamW)(
                parameters, self.lr, weight_decay=self.weight_decay, fused=True
            )
        return made

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
