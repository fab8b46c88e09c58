"""A constant weight: the control of every weighting, which tells whether it matters which answers are
doubted, or only how much is.
"""

from __future__ import annotations

from torch import Tensor

from kdx.core.checks import number
from kdx.core.types import Parts, Weighting


class Constant(Weighting):
    """w = value, in [0, 1]. A fair control has the mean of the weights that it is compared with
    (`refresh/weight_mean` of a run).
    """

    def __init__(self, parts: Parts, *, value: float):
        super().__init__()
        self.value = number("loss.weights.value", value, low=0, high=1)

    def forward(self, answers: Tensor, logits: Tensor) -> Tensor:
        return answers.new_full((len(answers),), self.value)
