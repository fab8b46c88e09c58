"""UPS: uncertainty-aware pseudo-label selection, with negative labels (Rizve et al. 2021, arXiv 2101.06329).

Here the selection is applied to the teacher's answers, once. What the paper does over its 20 iterations is
left out: new pseudo-labels from the student each time, and classes balanced in the first of them. Means over
selected rows are those of one batch, where the authors' code trains on the selected rows in batches of their
own.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdx.core.checks import number
from kdx.core.errors import UserError
from kdx.core.math import cross_entropy
from kdx.core.task import Categorical
from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.methods.forward import forward, student_margin
from kdx.methods.hidden_terms import HiddenTerms

EXTRAS = ("mean", "std", "cool_mean", "cool_std")
NOTHING = 1e-6
"""Deviations below this are rounding: the passes agreed."""


def negative_loss(probs: Tensor, mask: Tensor) -> Tensor:
    """(B, C) student probabilities, (B, C) 0 or 1: the classes that a row is not -> (B,): mean over them of
    -log(1 - p), 0 without any
    """
    losses = -(1 - probs).clamp_min(1e-7).log()
    return (losses * mask).sum(1) / mask.sum(1).clamp_min(1)


def check_doubts(std: Tensor) -> None:
    """(B, C) deviations of the teacher's passes. Raises UserError where all gave the same."""
    if std.max() < NOTHING:
        raise UserError(
            "loss=ups selects by the teacher's uncertainty, and its passes with dropout all gave the same "
            "answer: the teacher has no dropout; set teacher.dropout=0.3, say"
        )


class UPS(Objective):
    """loss = mean over labelled rows and positive pool rows of CE + mean over negative pool rows of
    `negative_loss`, and features' terms.

    Positive: the largest mean probability of the dropout passes is at least `positive`, and its deviation
    below `positive_std`; the label is that class. Negative, if not positive: the classes (never that one)
    whose mean at half the logits is below `negative` and its deviation below `negative_std`. All four in [0,
    1]. Means and deviations are `parts.extras`, so a teacher with dropout must have answered with
    `pseudo_label.passes`. The mean is over the rows selected in the batch, as in the authors' code, not over
    all of its rows.
    """

    uses = ("labelled", "unlabelled")
    needs_task = Categorical
    whole_batch = True

    def __init__(
        self,
        parts: Parts,
        *,
        positive: float,
        positive_std: float,
        negative: float,
        negative_std: float,
        features: Any,
    ):
        super().__init__(parts)
        for name in EXTRAS:
            if name not in parts.extras:
                raise UserError(
                    f"loss=ups reads '{name}' of the teacher's passes with dropout, which were not kept: set "
                    "pseudo_label.passes=10"
                )
        self.extras = [parts.extras[name] for name in EXTRAS]
        self.positive, self.positive_std = (
            number("loss.positive", positive, low=0, high=1),
            number("loss.positive_std", positive_std, low=0, high=1),
        )
        self.negative, self.negative_std = (
            number("loss.negative", negative, low=0, high=1),
            number("loss.negative_std", negative_std, low=0, high=1),
        )
        self.features = HiddenTerms(features, parts)
        self.doubts = False

    def select(
        self, mean: Tensor, std: Tensor, cool_mean: Tensor, cool_std: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The four extras (B, C) -> labels (B,) int64, positive (B,) bool, negative (B, C) of 0 and 1"""
        top, label = mean.max(1)
        positive = (top >= self.positive) & (std.gather(1, label[:, None])[:, 0] < self.positive_std)
        negative = (cool_mean < self.negative) & (cool_std < self.negative_std) & ~positive[:, None]
        return label, positive, negative.scatter(1, label[:, None], False).float()

    def forward(self, streams: Streams, progress: float) -> Outcome:
        joint, extras = (
            forward(streams, self.student, self.features, self.class_weights, progress),
            [extra(streams["unlabelled"]) for extra in self.extras],
        )
        if self.training and not self.doubts:  # one look, as each would stall an accelerator
            check_doubts(extras[1])
            self.doubts = True
        label, positive, negative = self.select(*extras)
        kept, denied = positive.float(), (negative.sum(1) > 0).float()
        trusted = len(joint.known) + kept.sum()
        return Outcome(
            terms=joint.features.beside(
                {
                    "labels": joint.labels().sum() / trusted,
                    "positive": (kept * cross_entropy(joint.own, label)).sum() / trusted,
                    "negative": negative_loss(joint.own.float().softmax(1), negative).sum()
                    / denied.sum().clamp_min(1),
                }
            ),
            monitors={
                "negative": denied.mean(),
                "unlabelled/weight": kept,
                "unlabelled/student_margin": student_margin(joint.own),
            },
        )
