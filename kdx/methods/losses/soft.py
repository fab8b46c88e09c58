"""Vanilla distillation with unlabelled examples: labels on the labelled rows, the teacher's word on the pool
(soft or hard).
"""

from __future__ import annotations

from typing import Any

from kdx.core.checks import flag
from kdx.core.math import cross_entropy
from kdx.core.task import Categorical
from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.methods.forward import forward_with_teacher
from kdx.methods.hidden_terms import HiddenTerms


class Soft(Objective):
    """loss = (sum over labelled rows of CE(y, student) + sum over pool rows of w * CE(q, student)) / all
    rows, and the features' terms.

    q: the teacher's probabilities, or with hard its first choice. weights, features: components, built with
    `parts`; w in [0, 1]. Labelled and pool rows share one forward pass. With w = 1 and no features this is
    plain distillation at temperature 1.
    """

    uses = ("labelled", "unlabelled")
    needs_task = Categorical

    def __init__(self, parts: Parts, *, hard: bool, weights: Any, features: Any):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.hard = flag("loss.hard", hard)
        self.weights, self.features = weights.build(parts), HiddenTerms(features, parts)

    def forward(self, streams: Streams, progress: float) -> Outcome:
        joint = forward_with_teacher(self, streams, progress)
        targets = joint.answers.argmax(1) if self.hard else joint.answers.softmax(1)
        return joint.outcome(cross_entropy(joint.own, targets))
