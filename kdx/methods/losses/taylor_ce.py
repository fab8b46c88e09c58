"""Taylor cross-entropy (Feng et al. 2020, "Can cross entropy loss be robust to label noise?", IJCAI) on the
teacher's answers.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdx.core.checks import flag, integer
from kdx.core.task import Categorical
from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.methods.forward import forward_with_teacher
from kdx.methods.hidden_terms import HiddenTerms


def taylor(probs: Tensor, order: int) -> Tensor:
    """Probabilities in [0, 1], any shape -> the same: sum over i = 1 to order of (1 - p)^i / i, at most that
    of p = 0, which is finite.

    The series of -log p around p = 1: order 1 is 1 - p, a mean absolute error; as the order grows it becomes
    cross-entropy.
    """
    rest = 1 - probs
    return sum(rest**i / i for i in range(1, order + 1))


class TaylorCE(Objective):
    """loss = (sum over labelled rows of CE(y, student) + sum over pool rows of w * sum_c q_c
    taylor(student_c)) / all rows, and features' terms.

    order >= 1. q: the teacher's probabilities (a generalisation of this project), or with hard its first
    choice (the paper's form for noisy labels, of which all may be wrong; labelled rows have plain
    cross-entropy here). weights, features: components, built with `parts`. Which order SLaM's comparison took
    is not known to us.
    """

    uses = ("labelled", "unlabelled")
    needs_task = Categorical

    def __init__(self, parts: Parts, *, order: int, hard: bool, weights: Any, features: Any):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.order = integer("loss.order", order, low=1)
        self.hard = flag("loss.hard", hard)
        self.weights, self.features = weights.build(parts), HiddenTerms(features, parts)

    def forward(self, streams: Streams, progress: float) -> Outcome:
        joint = forward_with_teacher(self, streams, progress)
        probs = joint.own.float().softmax(1)
        if self.hard:
            losses = taylor(probs.gather(1, joint.answers.argmax(1, keepdim=True))[:, 0], self.order)
        else:
            losses = (joint.answers.softmax(1) * taylor(probs, self.order)).sum(1)
        return joint.outcome(losses)
