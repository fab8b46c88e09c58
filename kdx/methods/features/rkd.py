"""Relational knowledge distillation (Park et al. 2019, arXiv 1904.05068): distances between rows, and angles
between three of them, as the teacher's features have them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from kdx.core.checks import number
from kdx.core.types import Features, Parts, Shown
from kdx.models.row_features import RowFeatures, in_full

_LEAST = 1e-12
"""Below this a squared distance is taken for it, so that its root has a gradient; as the authors' code."""


def distances(feature: Tensor) -> Tensor:
    """(B, D) -> (B, B): Euclidean distances divided by the mean of those that are not 0; 0 on the
    diagonal."""
    squares = feature.square().sum(1)
    found = (squares[:, None] + squares - 2 * feature @ feature.T).clamp(min=_LEAST).sqrt()
    found = found * (1 - torch.eye(len(found), dtype=found.dtype, device=found.device))
    return found / (found.sum() / (found > 0).sum())


def angles(feature: Tensor) -> Tensor:
    """(B, D) -> (B, B, B) in [-1, 1]: entry i, j, k is the cosine of the angle at row i between rows j and
    k; 0 where two of them are one row."""
    apart = F.normalize(feature[None] - feature[:, None], dim=2)
    return apart @ apart.transpose(1, 2)


def relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Two of either, alike in shape -> (): the Huber loss with a bend at 1, mean over all entries."""
    return F.smooth_l1_loss(student, teacher)


class RKD(Features):
    """terms distances = weight * distance * `relation` of `distances`, and angles = weight * angle *
    `relation` of `angles`: equations 4 and 6 of the paper.

    weight, distance, angle >= 0; the paper's for classes are 25 and 50. student, teacher: see
    kdx.models.row_features.RowFeatures; no projector is needed, as relations have no width. 0 where the
    student's features are the teacher's, turned, moved or scaled. Deviations: as in the authors' code the
    mean is over all entries, those of a row with itself too, and distances are normalised within each batch.
    Cost: the teacher's network forwards each batch; angles hold B^3 and B^2 D numbers.
    """

    whole_batch = True
    least_rows = 2

    def __init__(
        self,
        parts: Parts,
        *,
        weight: float,
        distance: float,
        angle: float,
        student: str,
        teacher: str,
    ):
        super().__init__()
        self.weight = number("loss.features.rkd.weight", weight, low=0)
        self.distance = number("loss.features.rkd.distance", distance, low=0)
        self.angle = number("loss.features.rkd.angle", angle, low=0)
        self.rows = RowFeatures(parts, student=student, teacher=teacher)

    def forward(self, shown: Shown) -> Mapping[str, Tensor]:
        own, others = self.rows.several("rkd", shown.inputs)
        forms = {"distances": (self.distance, distances), "angles": (self.angle, angles)}
        with in_full(own):
            return {
                name: self.weight * share * relation(form(own), form(others))
                for name, (share, form) in forms.items()
                if share
            }
