"""Pseudo-Label (Lee 2013, ICML workshop on challenges in representation learning): the student's own guesses
as labels, as it trains.
"""

from __future__ import annotations

from kdx.core.checks import agreed, number, refuse
from kdx.core.math import cross_entropy
from kdx.core.task import Categorical
from kdx.core.trees import joined
from kdx.core.types import Objective, Outcome, Parts, Streams


def weight_at(progress: float, weight: float, start: float, full: float) -> float:
    """0 up to progress `start`, then a straight line to `weight` at `full`, and `weight` from there (Lee
    2013, equation 16).
    """
    if progress < start:
        return 0.0
    return weight * min((progress - start) / (full - start), 1.0) if full > start else weight


class PseudoLabel(Objective):
    """loss = mean over labelled rows of cross-entropy + a(progress) * mean over pool rows of cross-entropy to
    the student's own argmax.

    Lee 2013, equation 15; a is `weight_at`. weight >= 0 is a's end; 0 <= start <= full <= 1 are shares of the
    training. The guesses are those of the current step, from the same forward pass; labelled and pool rows
    share it. weight 0 is `supervised` (but for the pool rows in the statistics of batch normalisation).
    Deviations: no pre-training as a denoising auto-encoder (the paper's second variant), and optimiser and
    schedule are those of student_train.
    """

    uses = ("labelled", "unlabelled")
    needs_task = Categorical
    reads = ()

    def __init__(self, parts: Parts, *, weight: float, start: float, full: float):
        super().__init__(parts)
        self.weight = number("loss.weight", weight, low=0)
        self.start = number("loss.start", start, low=0, high=1)
        self.full = number("loss.full", full, low=0, high=1)
        agreed()
        if self.full < self.start:
            refuse(f"loss.full must not be before loss.start={start}; given: {full}")

    def forward(self, streams: Streams, progress: float) -> Outcome:
        labelled, pool = streams["labelled"], streams["unlabelled"]
        logits = self.student(joined([labelled.views["main"], pool.views["main"]]))
        known, own = logits.split([len(labelled), len(pool)])
        return Outcome(
            terms={
                "labels": cross_entropy(known, labelled.y, self.class_weights).mean(),
                "pool": weight_at(progress, self.weight, self.start, self.full)
                * cross_entropy(own, own.argmax(1)).mean(),
            },
            monitors={"confidence": own.detach().softmax(1).amax(1).mean()},
        )

    def ended(self, progress: float) -> str | None:
        if progress >= self.start:
            return super().ended(progress)
        return (
            f"the training ended before loss.start={self.start:g} of it was done, so that the pool taught "
            "the student nothing: set it lower, or train longer"
        )
