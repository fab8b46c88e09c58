"""Domain-adversarial training: features of which a head cannot tell the domain (Ganin et al. 2016, JMLR 17,
arXiv 1505.07818).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdx.core.checks import integer, number
from kdx.core.types import Features, Parts, Shown
from kdx.methods.two_domains import source_and_target
from kdx.models.row_features import StudentRows

_STEEPNESS = 10.0
"""gamma of the paper's schedule."""


class Reverse(torch.autograd.Function):
    """The identity, whose gradient is multiplied by -strength: the gradient reversal layer."""

    @staticmethod
    def forward(context: Any, feature: Tensor, strength: float) -> Tensor:
        context.strength = strength
        return feature.view_as(feature)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -context.strength * gradients[0], None


def strength(progress: float) -> float:
    """2 / (1 + e^(-10 p)) - 1 of the share p of the training that is done: from 0 towards 1 (section
    5.2.2)."""
    return 2 / (1 + math.exp(-_STEEPNESS * progress)) - 1


class DANN(Features):
    """term domain = mean over labelled rows of -log(1 - d) + mean over pool rows of -log d, d in (0, 1) the
    domain head's belief that a feature is of the target.

    The head learns to tell domains apart; behind `Reverse` the student's layers get the gradient times
    -lambda_max * `strength`(progress) and learn that it cannot. lambda_max >= 0: 0 is no term. hidden >= 1:
    the width of the head's one layer. layer: its name, or "auto": what the last linear layer sees. 2 ln 2 =
    1.386 of the term: the head knows nothing. No teacher is read. Deviation: the paper lowers the learning
    rate by a schedule of its own (mu = 0.01 / (1 + 10 p)^0.75); here it is student_train's.
    """

    reads = ()
    whole_batch = True
    least_rows = 2

    def __init__(self, parts: Parts, *, lambda_max: float, hidden: int, layer: str):
        super().__init__()
        self.weight = number("loss.features.dann.lambda_max", lambda_max, low=0)
        hidden = integer("loss.features.dann.hidden", hidden, low=1, high=1 << 16)
        self.rows = StudentRows(parts, layer=layer)
        with torch.random.fork_rng(devices=[]):  # the student's own noise stays as without this term
            self.head = nn.Sequential(nn.Linear(self.rows.width, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, shown: Shown) -> Mapping[str, Tensor]:
        feature = self.rows.take()
        source, target = source_and_target("dann", feature, shown, 1)
        both = Reverse.apply(torch.cat([source, target]), self.weight * strength(shown.progress))
        said = self.head(both)[:, 0].float()
        own, others = said[: len(source)], said[len(source) :]
        return {"domain": F.softplus(own).mean() + F.softplus(-others).mean()}
