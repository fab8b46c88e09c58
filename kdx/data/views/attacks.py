"""The options of `shift` that are no step of a view, as they hang on the network that they are aimed at:
adversarial examples. Each is done to the test rows of each network by its own gradient, at several epsilons.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from kdx.core import checks
from kdx.core.attack import ascend, box, usual_step

Loss = Callable[[Tensor], Tensor]
_START = 1


class Attack(ABC):
    """Rows moved against one network. Subclasses are final.

    epsilons: the largest changes of a value in [0, 1], each measured by itself.
    """

    reads: ClassVar[str] = "pictures"
    """As of a `Step`: which rows it moves."""
    epsilons: Sequence[float]
    steps: int
    """Gradients that one epsilon takes."""

    @abstractmethod
    def __call__(self, x: Tensor, loss: Loss, epsilon: float) -> Tensor:
        """(B, C, H, W) float in [0, 1] -> the same, no value further from its own than epsilon. loss: what is
        made large, (B, C, H, W) -> (B,)."""


class FGSM(Attack):
    """One step of epsilon to where the loss grows (Goodfellow, Shlens and Szegedy 2015, arXiv 1412.6572)."""

    def __init__(self, *, epsilons: Sequence[float]):
        self.epsilons, self.steps = _checked("shift.fgsm.epsilons", epsilons), 1

    def __call__(self, x: Tensor, loss: Loss, epsilon: float) -> Tensor:
        return ascend(x, loss, epsilon=epsilon, step=epsilon, steps=1)


class PGD(Attack):
    """`steps` steps of 2.5 epsilon / steps, back into the box each time, from a random place in it (Madry et
    al. 2018, arXiv 1706.06083). The places are the same in each measurement."""

    def __init__(self, *, epsilons: Sequence[float], steps: int):
        self.epsilons = _checked("shift.pgd.epsilons", epsilons)
        self.steps = checks.integer("shift.pgd.steps", steps, low=1, high=1000)

    def __call__(self, x: Tensor, loss: Loss, epsilon: float) -> Tensor:
        low, high = box(x, epsilon)
        draws = torch.rand(x.shape, generator=torch.Generator().manual_seed(_START)).to(x)
        step = usual_step(epsilon, self.steps)
        return ascend(x, loss, epsilon=epsilon, step=step, steps=self.steps, begin=low + (high - low) * draws)


def _checked(name: str, epsilons: object) -> list[float]:
    if not isinstance(epsilons, Sequence) or isinstance(epsilons, str) or not epsilons:
        checks.refuse(f"{name} must be a list of numbers in [0, 1], such as [0.05,0.1]; given: {epsilons}")
        return [0.0]
    return [checks.number(name, epsilon, low=0, high=1) for epsilon in epsilons]
