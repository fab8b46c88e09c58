"""Similarity-preserving distillation (Tung and Mori 2019, arXiv 1907.09682): rows that are alike for the
teacher are alike for the student.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from kdx.core.checks import number
from kdx.core.types import Features, Parts, Shown
from kdx.models.row_features import RowFeatures, in_full


def similarities(feature: Tensor) -> Tensor:
    """(B, D) -> (B, B): the rows' inner products, each row of these divided by its length."""
    return F.normalize(feature @ feature.T, dim=1)


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """(B, Ds), (B, Dt) -> (), in [0, 4 / B]: equation 4, the sum of squared differences of both
    `similarities`, divided by B^2."""
    return (similarities(student) - similarities(teacher)).square().mean()


class SimilarityPreserving(Features):
    """term similarity = weight * `similarity_loss`.

    weight >= 0; 3000 in the paper. student, teacher: see kdx.models.row_features.RowFeatures; auto is the
    last layer that gives a map, and without maps what the last linear layer sees. 0 where the student's
    features are the teacher's, turned or scaled. Each row of products is divided by its length, as in the
    paper; torchdistill divides by the sum of its absolute values, and has other numbers. Cost: the teacher's
    network forwards each batch.
    """

    whole_batch = True
    least_rows = 2

    def __init__(self, parts: Parts, *, weight: float, student: str, teacher: str):
        super().__init__()
        self.weight = number("loss.features.similarity_preserving.weight", weight, low=0)
        self.rows = RowFeatures(parts, student=student, teacher=teacher, auto="map")

    def forward(self, shown: Shown) -> Mapping[str, Tensor]:
        own, others = self.rows.several("similarity_preserving", shown.inputs)
        with in_full(own):
            return {"similarity": self.weight * similarity_loss(own, others)}
