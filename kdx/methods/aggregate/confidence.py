"""The surer a teacher is of a row, the more it counts there."""

from __future__ import annotations

import math

from torch import Tensor

from kdx.core.aggregate import Aggregate, weighted_mean


class Confidence(Aggregate):
    """p(c|x) = sum_m w_m(x) p_m(c|x), with w_m(x) proportional to 1 - H(p_m(.|x)) / log K, in [0, 1]: 1 of
    who is certain, 0 of who knows nothing of the row. Where none knows anything they weigh alike.

    Equally sure teachers: the mean. It asks no labels, and a teacher that is sure and wrong counts most:
    networks that were trained long are (docs/teacher.md, How sure it is).
    """

    def probs(self, probs: Tensor, weights: Tensor | None) -> Tensor:
        entropy = -(probs * probs.clamp_min(1e-30).log()).sum(2)  # (M, B)
        sure = (1 - entropy / math.log(max(2, probs.shape[2]))).clamp(0, 1)
        total = sure.sum(0)
        return weighted_mean(probs, (sure / total.clamp_min(1e-30)).where(total > 1e-6, 1 / len(probs)))
