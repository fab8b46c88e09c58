"""The labels alone: the task's own loss on labelled examples. The teacher's own loss, and that of the matched
baseline of every distilled student.
"""

from __future__ import annotations

from kdx.core.types import Objective, Outcome, Streams


class Supervised(Objective):
    """loss = mean over labelled rows of the task's own loss; of classification cross-entropy."""

    uses = ("labelled",)
    reads = ()

    def forward(self, streams: Streams, progress: float) -> Outcome:
        batch = streams["labelled"]
        losses = self.task.loss(self.student(batch.views["main"]), batch.y, self.class_weights)
        return Outcome(terms={"labels": losses.mean()})
