"""The labels alone: cross-entropy on labelled examples. The teacher's own loss, and the matched baseline of
every distilled student.
"""

from __future__ import annotations

from kdx.core import Objective, Outcome, Streams
from kdx.functional import cross_entropy


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
