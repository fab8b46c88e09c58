"""A regressor to the teacher's hidden map, as the PyTorch tutorial on knowledge distillation has it (its
fourth training: "intermediate regressor").
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdx.core.checks import number
from kdx.core.types import Features, Parts, Shown
from kdx.models.pairs import Pairs


class Regressor(Features):
    """term regressor = weight * mean over all entries of (convolution(student's map) - teacher's map)^2, for
    one layer of each.

    weight >= 0; 0.25 in the tutorial, beside 0.75 of the labels' loss. student, teacher: see
    kdx.models.pairs.Pairs; auto is the last layer that gives a map. The convolution is 3x3 with padding and
    bias, and of dense features, maps of 1x1, a linear layer; it is learned. Maps of two sizes are averaged
    down to the smaller; the tutorial's are alike. Cost: the teacher's network forwards each batch.
    """

    def __init__(self, parts: Parts, *, weight: float, student: str, teacher: str):
        super().__init__()
        self.weight = number("loss.features.regressor.weight", weight, low=0)
        self.pairs = Pairs(parts, student=student, teacher=teacher, middle=False, last=True)
        ((own, wanted),) = self.pairs.shapes
        dense = own[1:] == (1, 1) or wanted[1:] == (1, 1)
        with torch.random.fork_rng(devices=[]):  # the student's own noise stays what it is without this term
            self.convolution = nn.Conv2d(own[0], wanted[0], 1 if dense else 3, padding=0 if dense else 1)

    def forward(self, shown: Shown) -> Mapping[str, Tensor]:
        ((student, teacher),) = self.pairs.read(shown.inputs)
        return {"regressor": self.weight * F.mse_loss(self.convolution(student).float(), teacher.float())}
