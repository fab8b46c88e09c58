"""Each teacher has one vote."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdx.core.aggregate import Aggregate
from kdx.core.checks import number


class Vote(Aggregate):
    """p(c|x) = (1 - floor) votes_c / M + floor / K, of M teachers and K classes: the share of those whose
    first choice is c (of equal ones the first), and a little for every class, so that logarithms are finite.

    floor: the mass that all classes share alike, in (0, 1). How sure a teacher is does not count, and what it
    says of the other classes is lost; with many teachers the shares tell it anew (PATE's votes without
    noise: Papernot et al. 2017, arXiv 1610.05755). Equal teachers: their first choice alone, not their mean.
    """

    def __init__(self, *, floor: float):
        self.floor = number("aggregate.floor", floor, low=0, high=1, open_low=True, open_high=True)

    def caution(self, members: int) -> str | None:
        if members != 2:
            return None
        return (
            "aggregate=vote of two teachers: wherever their first choices differ the vote is a tie, and both "
            "classes are as likely: name a third teacher, or choose aggregate=mean"
        )

    def probs(self, probs: Tensor, weights: Tensor | None) -> Tensor:
        classes = probs.shape[2]
        votes = F.one_hot(probs.argmax(2), classes).to(probs.dtype).mean(0)
        return (1 - self.floor) * votes + self.floor / classes
