"""Variational information distillation (Ahn et al. 2019, arXiv 1904.05835): the student's features must tell
the teacher's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdx.core.checks import number
from kdx.core.types import Features, Parts, Shown
from kdx.models.pairs import Pairs

_LEAST = 1e-5
"""Added to each variance, so that it cannot vanish; as the authors' code does."""


def nll(mean: Tensor, feature: Tensor, raw: Tensor) -> Tensor:
    """(B, C, H, W) guesses and features, (C,) -> (): mean over all entries of ((t - mu)^2 / var + log var) /
    2, var = softplus(raw) + 1e-5.

    Equation 5 of the paper without its constant log(2 pi) / 2, and so possibly below 0: what the guess leaves
    unknown, in nats an entry.
    """
    variance = (F.softplus(raw) + _LEAST)[:, None, None]
    return ((feature - mean).square() / variance + variance.log()).mean() / 2


def regressor(student: int, teacher: int) -> nn.Module:
    """1x1 convolutions from the student's channels to the teacher's, with two ReLU between and no bias."""
    sizes = [(student, teacher), (teacher, teacher), (teacher, teacher)]
    first, *others = [nn.Conv2d(i, o, 1, bias=False) for i, o in sizes]
    return nn.Sequential(first, *(layer for other in others for layer in (nn.ReLU(), other)))


class VID(Features):
    """term vid = weight * sum over pairs of layers of `nll`, the guess being a learned function of the
    student's feature.

    weight >= 0. variance > 1e-5: each channel's at first; it is learned. student, teacher: see
    kdx.models.pairs.Pairs. Maps of two sizes are averaged down to the smaller, as released comparisons
    (RepDistiller) do.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        weight: float,
        variance: float,
        student: str | Sequence[str],
        teacher: str | Sequence[str],
    ):
        super().__init__()
        self.weight = number("loss.features.vid.weight", weight, low=0)
        variance = number("loss.features.vid.variance", variance, low=_LEAST, open_low=True)
        self.pairs = Pairs(parts, student=student, teacher=teacher, middle=False)
        with torch.random.fork_rng(devices=[]):  # the student's own noise stays what it is without this term
            self.regressors = nn.ModuleList(regressor(*channels) for channels in self.pairs.channels)
        raw = variance - _LEAST + math.log(-math.expm1(_LEAST - variance))  # the inverse of softplus
        self.raw = nn.ParameterList(
            nn.Parameter(torch.full((channels,), raw)) for _, channels in self.pairs.channels
        )

    def forward(self, shown: Shown) -> Mapping[str, Tensor]:
        rows = zip(self.pairs.read(shown.inputs), self.regressors, self.raw, strict=True)
        return {
            "vid": self.weight * sum(nll(guess(s).float(), t.float(), raw) for (s, t), guess, raw in rows)
        }
