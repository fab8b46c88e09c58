"""A teacher of two tasks (Caruana 1997, "Multitask learning"): it learns the truth and numbers that come as
another input of each row, by a head of its own each. What it hands on are its answers to the first, which a
student of that one task learns."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdx.core.checks import number
from kdx.core.errors import UserError, together
from kdx.core.trees import tree
from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.models.modes import evaluating
from kdx.models.pairs import fitted_to
from kdx.models.tap import penultimate


class Standard(nn.Module):
    """(B, K) numbers -> of mean 0 and deviation 1 over all rows that it has seen, each as often as it was."""

    seen: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, count: int):
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(count, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Takes note of the rows in train mode. A number that never varied is 0 (Chan, Golub and LeVeque
        1979)."""
        x = x.double()
        if self.training:
            whole, apart = self.seen + len(x), x.mean(0) - self.mean
            self.squares += (x - x.mean(0)).square().sum(0) + apart.square() * self.seen * len(x) / whole
            self.mean += apart * len(x) / whole
            self.seen += len(x)
        spread = self.spread()
        return torch.where(spread > 0, (x - self.mean) / spread.clamp_min(1e-30), 0.0).float()

    def spread(self) -> Tensor:
        """(K,) the deviation."""
        return (self.squares / self.seen.clamp_min(1)).sqrt()


class TwoTasks(Objective):
    """labels = mean over labelled rows of the task's own loss; numbers = weight * mean over rows and numbers
    of (head(features) - standardised number)^2, where the features are what the network's last layer sees,
    and the head is linear, learned, and no part of the network that is kept.

    input: the name of the input of a row, (B, K) numbers, all known, that the second task is; weight >= 0, 0:
    the first task alone. Of the numbers mean and deviation are those of the rows seen so far.
    """

    uses = ("labelled",)
    reads = ()
    whole_batch = True  # the numbers are standardised by the batches before

    def __init__(self, parts: Parts, *, input: str, weight: float):
        super().__init__(parts)
        self.input, self.weight = input, number("teacher_loss.weight", weight, low=0)
        example = parts.example
        if not isinstance(example, Mapping) or input not in example:
            known = together(sorted(example)) if isinstance(example, Mapping) else "one alone"
            raise UserError(
                f"teacher_loss.input={input} names the numbers of the second task, and the inputs of a row "
                f"are {known}: choose a data set of pairs, or another input"
            )
        if example[input].dim() != 2:
            raise UserError(f"teacher_loss.input={input} must be numbers, a table: name another input")
        self.validation = parts.validation
        self.tap = penultimate(parts.student)
        with torch.no_grad(), evaluating(parts.student), torch.random.fork_rng(devices=[]):
            like = next(parts.student.parameters(), torch.zeros(()))
            parts.student(fitted_to(example, like))
            self.head = nn.Linear(self.tap.take().flatten(1).shape[1], example[input].shape[1])
        self.standard = Standard(example[input].shape[1])

    def beside(self) -> Mapping[str, Mapping[str, float]]:
        """Of the second task on validation: `r2`, the share of the numbers' variance that its head tells, 1
        at best, 0 for their mean, the mean over numbers that vary; `rmse` in the unit of the number, where it
        is one; `rows`. {} without validation, or where no number varies."""
        if self.validation is None or not self.weight:
            return {}
        where, found = next(self.head.parameters()).device, []
        with evaluating(self.student), evaluating(self.standard), torch.no_grad():
            for batch in self.validation.clean():
                seen = tree(lambda leaf: leaf.to(where), batch.views["main"])
                self.student(seen)
                said = self.head(self.tap.take().flatten(1)).float()
                found.append(torch.stack([said, self.standard(seen[self.input])]).double().cpu())
        said, truth = torch.cat(found, 1)
        errors, spread = (said - truth).square().mean(0), truth.var(0, unbiased=False)
        varies = spread > 0
        if not varies.any():
            return {}
        figures = {"r2": (1 - errors[varies] / spread[varies]).mean().item(), "rows": float(len(truth))}
        if truth.shape[1] == 1:
            figures["rmse"] = (errors.sqrt() * self.standard.spread().cpu()).item()
        return {self.input: figures}

    def forward(self, streams: Streams, progress: float) -> Outcome:
        batch = streams["labelled"]
        seen = batch.views["main"]
        losses = self.task.loss(self.student(seen), batch.y, self.class_weights)
        said = self.head(self.tap.take().flatten(1)).float()
        apart = F.mse_loss(said, self.standard(seen[self.input]))
        return Outcome(
            terms={"labels": losses.mean(), "numbers": self.weight * apart},
            monitors={"numbers_mse": apart.detach()},
        )
