"""Unsupervised domain adaptation: the labels of one domain, and features that are alike in two."""

from __future__ import annotations

from typing import Any

from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.methods.forward import one_pass
from kdx.methods.hidden_terms import HiddenTerms


class Align(Objective):
    """loss = mean over labelled rows of the task's own loss + the features' terms (mmd, coral, dann).

    Labelled rows are the source, pool rows the target; both share one forward pass, so that batch
    normalisation sees both. features: components, built with `parts`. No teacher is asked; beside a teacher's
    answers the same terms stand with `loss=kd`. Limit: with none of them, or all at weight 0, the pool is not
    shown, and this is `supervised`.
    """

    uses = ("labelled", "unlabelled")
    reads = ()

    def __init__(self, parts: Parts, *, features: Any):
        super().__init__(parts)
        self.features = HiddenTerms(features, parts)

    def forward(self, streams: Streams, progress: float) -> Outcome:
        y = streams["labelled"].y
        if self.features.silent:
            said = self.student(streams["labelled"].views["main"])
            return Outcome({"labels": self.task.loss(said, y, self.class_weights).mean()})
        made = one_pass(streams, self.student, ("unlabelled",))
        added = self.features(made.seen(progress))
        labels = self.task.loss(made.known, y, self.class_weights).mean()
        return Outcome(added.beside({"labels": labels}))
