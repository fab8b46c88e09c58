"""Pseudo-boxes: the boxes of the pool that a teacher is sure of are learned as if they were right (Sohn et
al. 2020, A simple semi-supervised learning framework for object detection, arXiv 2005.04757, section 3.2).
"""

from __future__ import annotations

from typing import Any

from kdx.core.checks import number
from kdx.core.task import Boxed
from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.methods.forward import one_pass
from kdx.methods.hidden_terms import HiddenTerms


class PseudoBoxes(Objective):
    """loss = mean over labelled rows of the task's own loss + unlabel_ratio * the same mean over pool rows,
    where the teacher's boxes of confidence `score` and above stand in for the truth.

    score in [0, 1]; 1: no box is sure, and the pool teaches that nothing is anywhere. unlabel_ratio >= 0; 0
    is `supervised` but that batch normalisation sees the pool. Labelled and pool rows share one forward pass.
    The noise of the student (arXiv 2005.04757, and Noisy Student) is its augmentation and dropout.
    """

    uses = ("labelled", "unlabelled")
    needs_task = Boxed

    def __init__(self, parts: Parts, *, score: float, unlabel_ratio: float, features: Any):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.score = number("loss.score", score, low=0, high=1)
        self.unlabel_ratio = number("loss.unlabel_ratio", unlabel_ratio, low=0)
        self.features = HiddenTerms(features, parts)

    def forward(self, streams: Streams, progress: float) -> Outcome:
        made = one_pass(streams, self.student, ("unlabelled",))
        taught = self.task.as_truth(self.teacher(streams["unlabelled"]), self.score)
        known = self.task.loss(made.known, streams["labelled"].y, self.class_weights).mean()
        own = self.task.loss(made.own, taught).mean()
        added = self.features(made.seen(progress))
        return Outcome(added.beside({"labels": known, "pool": self.unlabel_ratio * own}), {})
