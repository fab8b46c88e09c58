"""Hints of FitNets (Romero et al. 2015, arXiv 1412.6550): a layer of the student is led to guess a layer of the teacher."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdx.checks import number
from kdx.core import Features, Parts
from kdx.hidden import Pairs


class FitNet(Features):
    """term hint = weight * mean over all entries of (regressor(student's feature) - teacher's feature)^2, for one layer of each.

    The regressor is a 1x1 convolution (linear, for dense layers), learned. weight >= 0. student, teacher: see kdx.hidden.Pairs.
    Deviation: the hint is learned together with the loss on logits, as comparisons of methods do, not in a stage before it; equation 3
    of the paper takes half the sum over entries, here it is their mean.
    """

    def __init__(self, parts: Parts, *, weight: float, student: str, teacher: str):
        super().__init__()
        self.weight = number("loss.features.weight", weight, low=0)
        self.pairs = Pairs(parts, student=student, teacher=teacher, middle=True)
        ((own, wanted),) = self.pairs.channels
        with torch.random.fork_rng(devices=[]):  # the student's own noise stays what it is without this term
            self.regressor = nn.Conv2d(own, wanted, 1)

    def forward(self, pixels: Tensor) -> Mapping[str, Tensor]:
        ((student, teacher),) = self.pairs.read(pixels)
        return {"hint": self.weight * F.mse_loss(self.regressor(student).float(), teacher.float())}
