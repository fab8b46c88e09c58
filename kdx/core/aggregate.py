"""How the answers of several teachers become one (the group `aggregate`). Imports torch only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from kdx.core.answers import Answers
from kdx.core.task import Categorical, Task

Combine = Callable[[Sequence[Answers]], Answers]
"""The answers of several to the same rows -> the one answer; `Task.mean` by default."""


class Aggregate(ABC):
    """Makes one answer of those of M teachers, of a task with classes. Subclasses are final, take
    keyword-only arguments without defaults, and keep nothing that they learn: what is found on validation are
    plain weights, which are handed on.
    """

    needs_task: ClassVar[Any] = Categorical
    """As an Objective's: a kind of categorical task."""
    reads_validation: ClassVar[bool] = False
    """Whether it weighs the teachers by what they answer to the clean validation rows."""

    def weights(self, probs: Tensor, truth: Tensor) -> Tensor | None:
        """(M, N, K) float64 probabilities of the M teachers on validation, (N,) int64 classes -> (M,) weights
        of the teachers, or (M, K) of each for each class, float64, >= 0, that add up to 1 over the teachers.
        Asked where `reads_validation` is true; None: it has none.
        """
        return None

    @abstractmethod
    def probs(self, probs: Tensor, weights: Tensor | None) -> Tensor:
        """(M, B, K) float32 probabilities of the M teachers to B rows -> (B, K) >= 0, each row adds up to 1.
        weights: what `weights` gave, None where it is not asked."""

    def caution(self, members: int) -> str | None:
        """What whoever asks so many teachers should know of it, in a sentence; None: nothing."""
        return None

    def in_sentence(self, weights: Tensor, classes: Sequence[str]) -> str:
        """The weights in a clause."""
        each = weights.reshape(len(weights), -1).mean(1)
        return ", ".join(f"member {number} {weight:.3f}" for number, weight in enumerate(each, 1))


@dataclass(frozen=True)
class Combined:
    """An aggregate at work. weights: see `Aggregate.weights`; None: it has none."""

    aggregate: Aggregate
    task: Categorical
    weights: Tensor | None = None

    def __call__(self, several: Sequence[Answers]) -> Answers:
        probs = torch.stack([self.task.probs(answers).float() for answers in several])
        weights = None if self.weights is None else self.weights.to(probs)
        return self.task.of_probs(self.aggregate.probs(probs, weights))


def weighted_mean(probs: Tensor, weights: Tensor) -> Tensor:
    """(M, B, K), (M,) or (M, B) that add up to 1 over M -> (B, K)"""
    return (probs * weights.reshape(*weights.shape, *[1] * (probs.dim() - weights.dim()))).sum(0)


def combine_of(aggregate: Aggregate | None, task: Task, weights: Tensor | None) -> Combine:
    """None: the mean, as the task takes it."""
    if aggregate is None:
        return task.mean
    assert isinstance(task, Categorical)
    return Combined(aggregate, task, weights)
