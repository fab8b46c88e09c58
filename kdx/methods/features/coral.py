"""Deep CORAL: features of two domains with one covariance (Sun and Saenko 2016, arXiv 1607.01719)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kdx.core.checks import number
from kdx.core.types import Features, Parts, Shown
from kdx.methods.two_domains import source_and_target
from kdx.models.row_features import StudentRows, in_full


def covariance(rows: Tensor) -> Tensor:
    """(N, D), N >= 2 -> (D, D), divided by N - 1: equations 2 and 3 of the paper."""
    centred = rows - rows.mean(0)
    return centred.T @ centred / (len(rows) - 1)


def coral(source: Tensor, target: Tensor) -> Tensor:
    """(S, D), (T, D) -> () >= 0: |C_S - C_T|_F^2 / (4 D^2), equation 1 of the paper; means are not
    compared."""
    apart: Tensor = (covariance(source) - covariance(target)).square().sum()
    return apart / (4 * source.shape[1] ** 2)


class CORAL(Features):
    """term coral = weight * `coral` of what one layer of the student makes of labelled and of pool rows.

    weight >= 0: 0 is no term. layer: its name, or "auto": what the last linear layer sees (the paper takes
    what it gives, the logits). No teacher is read. Two rows of each domain at least. Cost: D^2 numbers.
    """

    reads = ()
    whole_batch = True
    least_rows = 4

    def __init__(self, parts: Parts, *, weight: float, layer: str):
        super().__init__()
        self.weight = number("loss.features.coral.weight", weight, low=0)
        self.rows = StudentRows(parts, layer=layer)

    def forward(self, shown: Shown) -> Mapping[str, Tensor]:
        feature = self.rows.take()
        source, target = source_and_target("coral", feature, shown, 2)
        with in_full(feature):
            return {"coral": self.weight * coral(source, target)}
