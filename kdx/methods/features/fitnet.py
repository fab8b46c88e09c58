"""Hints of FitNets (Romero et al. 2015, arXiv 1412.6550): a layer of the student is led to guess a layer of
the teacher.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdx.core.checks import choice, number
from kdx.core.trees import tree
from kdx.core.types import Features, Parts, Shown
from kdx.models.pairs import Pairs, fitted_to

Shape = tuple[int, int, int]
"""(C, H, W)"""


def convolution(student: Shape, teacher: Shape) -> nn.Module:
    """From the student's map to the teacher's channels and size, which is in no side larger, or in both twice
    as large.

    As the paper, a kernel that just fits: 1 + H_s - H_t by 1 + W_s - W_t, without padding. As released
    comparisons (RepDistiller), 3x3 with stride 2 where both sides are halved, and 4x4 transposed with stride
    2 where they are doubled.
    """
    (own, *size), (wanted, *target) = student, teacher
    if size == [2 * side for side in target]:
        return nn.Conv2d(own, wanted, 3, stride=2, padding=1)
    if target == [2 * side for side in size]:
        return nn.ConvTranspose2d(own, wanted, 4, stride=2, padding=1)
    return nn.Conv2d(own, wanted, tuple(1 + s - t for s, t in zip(size, target, strict=True)))


class FitNet(Features):
    """term hint = weight * mean over all entries of (regressor(student's feature) - teacher's feature)^2, for
    one layer of each.

    weight >= 0. student, teacher: see kdx.models.pairs.Pairs. regressor: conv, a `convolution`, batch
    normalisation, and ReLU where the teacher's feature has no negative entry (the paper: the non-linearity of
    the hint); or linear, one 1x1 convolution at the smaller size of the two. Both are learned.
    stage in [0, 1): the share of the training in which the hint alone counts, so that no layer above the
    student's moves; afterwards it is off, as in the paper's two stages. 0: it is learned together with the
    loss on logits all along, as comparisons of methods do.
    Deviations: both stages are of one training, with one optimiser and schedule; equation 3 of the paper
    takes half the sum over entries, here it is their mean; batch normalisation is the comparisons', not the
    paper's; a teacher's map that is larger than the student's, but not twice as large, is averaged down to
    its size first.
    """

    def __init__(
        self, parts: Parts, *, weight: float, student: str, teacher: str, regressor: str, stage: float
    ):
        super().__init__()
        self.weight = number("loss.features.fitnet.weight", weight, low=0)
        self.kind = choice("loss.features.fitnet.regressor", regressor, ("conv", "linear"))
        self.stage = number("loss.features.fitnet.stage", stage, low=0, high=1, open_high=True)
        self.pairs = Pairs(parts, student=student, teacher=teacher, middle=True)
        ((own, wanted),) = self.pairs.shapes
        twice = wanted[1:] == tuple(2 * side for side in own[1:])
        self.target = wanted[1:] if twice else tuple(map(min, own[1:], wanted[1:]))
        self.whole_batch = self.kind == "conv"  # batch normalisation sees all rows
        with torch.random.fork_rng(devices=[]):  # the student's own noise stays what it is without this term
            if self.kind == "linear":
                self.regressor = nn.Conv2d(own[0], wanted[0], 1)
            else:
                layers = [convolution(own, (wanted[0], *self.target)), nn.BatchNorm2d(wanted[0])]
                self.regressor = nn.Sequential(*layers, *([nn.ReLU()] if self.rectified(parts) else []))

    @torch.no_grad()
    def rectified(self, parts: Parts) -> bool:
        """Whether the teacher's feature has no negative entry, on a few random rows."""
        like = next(parts.student.parameters(), torch.zeros(()))
        generator = torch.Generator().manual_seed(0)
        rows = tree(
            lambda leaf: (
                torch.rand(4, *leaf.shape[1:], generator=generator)
                if leaf.is_floating_point()
                else leaf.expand(4, *leaf.shape[1:])
            ),
            parts.example,
        )
        self.pairs.teacher(fitted_to(rows, like))
        return bool((self.pairs.taps[0][1].take() >= 0).all())

    def alone(self, progress: float) -> bool:
        return progress < self.stage

    def forward(self, shown: Shown) -> Mapping[str, Tensor]:
        if self.stage and not self.alone(shown.progress):
            return {"hint": self.pairs.taps[0][0].take().new_zeros(())}
        read = self.pairs.read if self.kind == "linear" else self.pairs.take
        ((student, teacher),) = read(shown.inputs)
        if teacher.shape[2:] != self.target and self.kind == "conv":
            teacher = F.adaptive_avg_pool2d(teacher, self.target)
        return {"hint": self.weight * F.mse_loss(self.regressor(student).float(), teacher.float())}
