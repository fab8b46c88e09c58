"""A mixture of the teachers, weighted by validation."""

from __future__ import annotations

import torch
from torch import Tensor

from kdx.core.aggregate import Aggregate, weighted_mean
from kdx.core.checks import integer

_LEAST = 1e-12
"""Of a probability, so that a row that every teacher rules out moves no weight."""


class Weighted(Aggregate):
    """p(c|x) = sum_m w_m p_m(c|x), with the weights w >= 0, sum 1, that make the validation labels likeliest:
    stacking of densities (Smyth and Wolpert 1999). The log loss of a mixture is convex in w, and each step of
    EM, w_m <- mean_n w_m p_m(y_n|x_n) / sum_j w_j p_j(y_n|x_n), lowers it, from equal weights on.

    steps: of EM, an integer >= 1. Nothing else is chosen. Equal teachers keep equal weights, the mean. Cost:
    one pass of each teacher over validation.
    """

    reads_validation = True

    def __init__(self, *, steps: int):
        self.steps = integer("aggregate.steps", steps, low=1)

    def weights(self, probs: Tensor, truth: Tensor) -> Tensor:
        likely = probs[:, torch.arange(len(truth)), truth].clamp_min(_LEAST)  # (M, N)
        weights = likely.new_full((len(likely),), 1 / len(likely))
        for _ in range(self.steps):
            shares = weights[:, None] * likely
            weights = (shares / shares.sum(0)).mean(1)
        return weights

    def probs(self, probs: Tensor, weights: Tensor | None) -> Tensor:
        assert weights is not None
        return weighted_mean(probs, weights)
