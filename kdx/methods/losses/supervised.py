"""The labels alone: cross-entropy on labelled examples. The teacher's own loss, and the matched baseline of
every distilled student.
"""

from __future__ import annotations

from kdx.core.math import cross_entropy
from kdx.core.types import Objective, Outcome, Streams


class Supervised(Objective):
    """loss = mean over labelled rows of cross_entropy(student, y)."""

    uses = ("labelled",)
    needs_teacher = False

    def forward(self, streams: Streams, progress: float) -> Outcome:
        batch = streams["labelled"]
        return Outcome(
            terms={
                "labels": cross_entropy(self.student(batch.views["main"]), batch.y, self.class_weights).mean()
            }
        )
