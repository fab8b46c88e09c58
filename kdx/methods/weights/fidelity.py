"""Fidelity weights, after Dehghani et al. 2018 (arXiv 1711.02799): a teacher's answer counts as far as the
teacher is sure of it.

The paper scales each step by the posterior confidence of a Gaussian process on the student's features. This
is a cheap stand-in that reads the uncertainty off the teacher's own probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdx.core.checks import choice, number
from kdx.core.math import margin
from kdx.core.task import Categorical
from kdx.core.types import Parts, Weighting


class Fidelity(Weighting):
    """w = exp(-beta * u). u: the entropy of the teacher's answer in nats (by=entropy), or 1 - its margin
    (by=margin). beta >= 0; 0: w = 1.
    """

    needs_task = Categorical

    def __init__(self, parts: Parts, *, beta: float, by: str):
        super().__init__()
        self.beta = number("loss.weights.beta", beta, low=0)
        self.by = choice("loss.weights.by", by, ("entropy", "margin"))

    def forward(self, answers: Tensor, logits: Tensor) -> Tensor:
        probs = answers.float().softmax(1)
        doubt = torch.special.entr(probs).sum(1) if self.by == "entropy" else 1 - margin(probs)
        return (-self.beta * doubt).exp()
