"""FixMatch (Sohn et al. 2020, arXiv 2001.07685): sure guesses on a weakly augmented picture are labels for
the strongly augmented one.
"""

from __future__ import annotations

from torch import Tensor, nn

from kdx.core.checks import number
from kdx.core.math import cross_entropy
from kdx.core.task import Categorical
from kdx.core.trees import joined
from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.models.ema import optional_average


def consistency(weak: Tensor, strong: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """(B, C), (B, C) logits -> (B,) 1[max q >= threshold] * cross-entropy(strong, argmax q), and (B,) that
    mask as 0 and 1.

    q = softmax(weak), without gradient. Equation 4 of the paper before its mean over all B rows, kept or not.
    """
    confidence, guess = weak.detach().float().softmax(dim=1).max(dim=1)
    kept = (confidence >= threshold).float()
    return kept * cross_entropy(strong, guess), kept


class FixMatch(Objective):
    """loss = mean over labelled rows of cross-entropy + weight * mean over pool rows of `consistency`.

    The view "main" (student_train.augment) is the weak one, "strong" (the same drawn anew, then
    student_train.strong_augment) the strong one; all share a forward pass. threshold in [0, 1]; weight >= 0.
    ema in [0, 1): decay of the average that is evaluated and saved, null: the student itself.
    Deviations from the paper and the authors' code: the average's decay rises to `ema` by (1 + n) / (10 + n),
    as their constant .999 suits long runs only, and batch normalisation's running statistics are averaged
    too, which they leave alone; the pool is the unlabelled rows, where theirs holds the labelled ones once
    more; RandAugment has one strength where theirs draws it for each picture (CTAugment, their code's
    default, is not there); the weak view is student_train.augment, affine by default where theirs flips and
    shifts; optimiser, rate, schedule and weight decay are those of student_train, and decay all parameters,
    where theirs are SGD (Nesterov, .03), cos(7 pi t / 16) and .0005 on kernels only
    (student_train.optimiser=sgd student_train.lr=0.03 student_train.weight_decay=0.0005 comes near).
    """

    uses = ("labelled", "unlabelled")
    needs_task = Categorical
    reads = ()
    extra_views = ("strong",)

    def __init__(self, parts: Parts, *, threshold: float, weight: float, ema: float | None):
        super().__init__(parts)
        self.threshold = number("loss.threshold", threshold, low=0, high=1)
        self.weight = number("loss.weight", weight, low=0)
        self.average = optional_average(parts.student, ema)

    def forward(self, streams: Streams, progress: float) -> Outcome:
        labelled, pool = streams["labelled"], streams["unlabelled"]
        logits = self.student(joined([labelled.views["main"], pool.views["main"], pool.views["strong"]]))
        known, weak, strong = logits.split([len(labelled), len(pool), len(pool)])
        losses, kept = consistency(weak, strong, self.threshold)
        return Outcome(
            terms={
                "labels": cross_entropy(known, labelled.y, self.class_weights).mean(),
                "pool": self.weight * losses.mean(),
            },
            monitors={"kept": kept.mean(), "unlabelled/weight": kept},
        )

    def after_step(self) -> None:
        if self.average:
            self.average.update(self.student)

    def export(self) -> nn.Module:
        return self.average.network if self.average else self.student
