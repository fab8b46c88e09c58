"""The few types that every method speaks: batches, splits, teachers, objectives. Imports torch only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """Some rows of one split, as pixels.

    split: name of the split the rows come from ("labelled", "unlabelled", "validation", "test").
    index: (B,) int64, rows of that split.
    view:  (B,) int64, the counter that each row's pixels were made from; 0 is the clean picture.
    views: named pixels, each (B, C, H, W) float in [0, 1]; "main" is what the student sees.
    y:     (B,) int64 classes, (B, K) float class probabilities where pictures were mixed, or None: no truth here.
    """

    split: str
    index: Tensor
    view: Tensor
    views: Mapping[str, Tensor]
    y: Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)


Streams = Mapping[str, Batch]
Teacher = Callable[[Batch], Tensor]
"""Logits (B, C) for a batch, never with gradient."""


@dataclass(frozen=True)
class Split:
    """Rows by index. `images` is (N, C, H, W) uint8 (a tensor, or a memory-mapped array behind one); `labels` (N,) int64 or None."""

    name: str
    images: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Parts:
    """What an objective is built from: objects, never config, and no test split, so that no method can peek."""

    student: nn.Module
    new_student: Callable[[], nn.Module]
    teacher: Teacher | None
    live_teachers: Sequence[Frozen]
    validation: Split | None
    num_classes: int


@dataclass(frozen=True)
class Outcome:
    """terms: scalars that are summed and minimised. monitors: watched only, scalars () or one value a row (B,)."""

    terms: Mapping[str, Tensor]
    monitors: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def loss(self) -> Tensor:
        return sum(self.terms.values())


class Frozen:
    """A network that only answers: eval mode, no gradient.

    Deliberately not an `nn.Module`: an objective that holds one never optimises it, saves it or switches it to train mode.
    """

    def __init__(self, module: nn.Module):
        self._module = module.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, K) logits"""
        return self._module(x)


class Objective(nn.Module, ABC):
    """A method of training: what is minimised, and what is evaluated and saved at the end.

    Subclasses are final. They take `parts` and keyword-only hyperparameters without defaults, and check each of them.
    """

    uses: ClassVar[tuple[str, ...]]
    """Streams without which the method has no meaning; checked before any work."""
    may_use: ClassVar[tuple[str, ...]] = ()
    """Streams that it reads where the dataset has them."""
    needs_teacher: ClassVar[bool] = True
    """Whether `parts.teacher` must answer. Without it no pseudo-labels are made."""

    def __init__(self, parts: Parts):
        super().__init__()
        self.student = parts.student

    @abstractmethod
    def forward(self, streams: Streams, progress: float) -> Outcome:
        """One training step's terms. progress: share of the training done, in [0, 1)."""

    def refresh(self) -> Mapping[str, float]:
        """Re-estimates statistics (once an epoch); returns scalars to log."""
        return {}

    def after_step(self) -> None:
        """Runs after each optimiser step: moving averages and the like."""

    def export(self) -> nn.Module:
        """The network that is evaluated and saved."""
        return self.student
