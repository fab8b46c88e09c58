"""Label smoothing (Szegedy et al. 2016, arXiv 1512.00567): a control for distillation, soft targets without a
teacher.
"""

from __future__ import annotations

from kdx.core.checks import number
from kdx.core.math import smooth_cross_entropy
from kdx.core.task import Categorical
from kdx.core.types import Objective, Outcome, Parts, Streams


class LabelSmoothing(Objective):
    """loss = mean over labelled rows of cross-entropy to (1 - smoothing) * label + smoothing / C. smoothing
    in [0, 1); 0 is supervised.
    """

    uses = ("labelled",)
    needs_task = Categorical
    reads = ()

    def __init__(self, parts: Parts, *, smoothing: float):
        super().__init__(parts)
        self.smoothing = number("loss.smoothing", smoothing, low=0, high=1, open_high=True)

    def forward(self, streams: Streams, progress: float) -> Outcome:
        batch = streams["labelled"]
        losses = smooth_cross_entropy(
            self.student(batch.views["main"]), batch.y, self.smoothing, self.class_weights
        )
        return Outcome(terms={"labels": losses.mean()})
