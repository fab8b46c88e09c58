"""Knowledge distillation (Hinton, Vinyals and Dean 2015, arXiv 1503.02531), on labels and pool together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kdx.core.errors import Caution, UserError
from kdx.core.task import Numeric
from kdx.core.types import Answers, Objective, Outcome, Parts, Streams
from kdx.methods.forward import TaughtPass, taught_pass
from kdx.methods.hidden_terms import HiddenTerms
from kdx.methods.logits import checked_setting, hottest, refinement, value_at


class KD(Objective):
    """loss = alpha * mean over all rows of w * match(student, teacher, T) + (1 - alpha) * mean over labelled
    rows of the task's own loss.

    Of classification match is T^2 KL(teacher^T || student^T) and the loss cross-entropy; of other tasks see
    their `Task.match` and `Task.loss`. temperature > 0, alpha in [0, 1]; each may be [from, to], a straight
    line over the training. Where a pool exists
    its rows join the first term; labelled and pool rows share one forward pass, so batch normalisation sees
    both. With alpha = 0 and no pool this is `supervised`.

    Of classes: standardise, wrong and adaptive, see `kdx.methods.logits.Refinement`. w is 1, of adaptive the
    weight by which a row's answer counts beside the labels, whose weights are as they were: a teacher that is
    equally sure of all rows is plain distillation. With wrong=drop and a teacher that is always right, too.
    """

    uses = ("labelled",)
    may_use = ("unlabelled",)
    reads_kept = True
    kept_with = {"standardise": False, "wrong": "keep", "adaptive": "none"}

    def __init__(
        self,
        parts: Parts,
        *,
        temperature: float | Sequence[float],
        alpha: float | Sequence[float],
        # an option file of before has none of these
        features: Any = None,
        standardise: bool = False,
        wrong: str = "keep",
        adaptive: str = "none",
    ):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.features = HiddenTerms(features, parts)
        self.temperature = checked_setting("loss.temperature", temperature, low=0, open_low=True)
        if alpha != 0 and (words := self.task.too_soft(hottest(self.temperature))):
            warnings.warn(words, Caution, stacklevel=2)
        self.alpha = checked_setting("loss.alpha", alpha, low=0, high=1)
        if self.alpha in (0, (0, 0)) and not self.task.labels:
            raise UserError(
                f"loss.alpha=0 leaves the labels alone to learn from, and an answer here is "
                f"{self.task.words}, without labels: set it above 0"
            )
        self.refine = refinement(self.task, standardise, wrong, adaptive)
        self.whole_batch = self.refine.adaptive != "none"  # the weights' mean is that of the batch

    def idle(self) -> Mapping[str, str]:
        if isinstance(self.task, Numeric):
            return {
                "temperature": f"it softens probabilities, and an answer here is {self.task.words}: leave it "
                "out"
            }
        if self.alpha in (0, (0, 0)):
            why = "loss.alpha=0 gives the teacher's answers no weight: leave one of them out"
            return dict.fromkeys(("temperature", *self.kept_with), why)
        return {}

    def forward(self, streams: Streams, progress: float) -> Outcome:
        made = taught_pass(self, streams)
        alpha, y = value_at(self.alpha, progress), streams["labelled"].y
        apart, known = self._apart_and_known(made, y, value_at(self.temperature, progress))
        return made.outcome(
            self.features(made.seen(progress)),
            {"distillation": alpha * apart, "labels": (1 - alpha) * known},
        )

    def _apart_and_known(self, made: TaughtPass, y: Answers, temperature: float) -> tuple[Tensor, Tensor]:
        """As of a `TaughtPass`, the teacher's logits refined."""
        if self.refine.plain:
            return made.apart_and_known(y, temperature, self.class_weights)
        known = self.task.loss(made.known, y, self.class_weights).mean()
        given = self.refine.guidance(made.said, made.answers, y)
        return given.mean(self.task.match(given.student, given.teacher, temperature)), known


class TokenKD(KD):
    """`KD` token by token (Kim and Rush 2016, arXiv 1606.07947): of next tokens the mean over rows is one
    over all their places. Of classes it is `KD`; other answers have no distribution to be compared.
    """

    needs_distributions = True
