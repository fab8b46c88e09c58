"""Distillation by the squared difference of logits (Ba and Caruana 2014, arXiv 1312.6184; Kim, Oh, Kim, Cho
and Yun 2021, "Comparing Kullback-Leibler Divergence and Mean Squared Error Loss in Knowledge Distillation",
arXiv 2105.08919)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kdx.core.checks import flag
from kdx.core.divergence import over_temperature
from kdx.core.task import Categorical
from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.methods.forward import taught_pass
from kdx.methods.hidden_terms import HiddenTerms
from kdx.methods.logits import checked_setting, refinement, value_at


def squared_difference(student: Tensor, teacher: Tensor, centred: bool) -> Tensor:
    """(N, C) logits of both -> (N,), >= 0: the mean over classes of (z_student - z_teacher)^2. centred: after
    each has lost its mean over the classes, which changes no probability.
    """
    apart = over_temperature(student, 1) - over_temperature(teacher, 1)
    if centred:
        apart = apart - apart.mean(1, keepdim=True)
    return apart.square().mean(1)


class MSELogits(Objective):
    """loss = alpha * mean over all rows of `squared_difference` + (1 - alpha) * mean over labelled rows of
    cross-entropy.

    alpha in [0, 1], or [from, to], a straight line over the training. Half of it, centred, is what T^2 KL
    comes to as T grows without end (Hinton et al. 2015, section 2.1). standardise, wrong: see
    `kdx.methods.logits.Refinement`; standardised logits are centred.

    Deviations: the papers write the squared norm, a sum over classes; here it is the mean, as
    implementations have it, so that alpha means the same whatever the number of classes. Ba and Caruana learn
    from logits alone, alpha = 1. A teacher whose answers are probabilities, as those of scikit-learn, has
    logits that are their logarithms, and differences of these can be large. With alpha = 0 and no pool this
    is `supervised`. Cost: that of kd.
    """

    uses = ("labelled",)
    may_use = ("unlabelled",)
    needs_task = Categorical

    def __init__(
        self,
        parts: Parts,
        *,
        alpha: float | Sequence[float],
        centred: bool,
        standardise: bool,
        wrong: str,
        features: Any,
    ):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.features = HiddenTerms(features, parts)
        self.alpha = checked_setting("loss.alpha", alpha, low=0, high=1)
        self.centred = flag("loss.centred", centred)
        self.refine = refinement(self.task, standardise, wrong)

    def idle(self) -> Mapping[str, str]:
        if self.alpha in (0, (0, 0)):
            why = "loss.alpha=0 gives the teacher's answers no weight: leave one of them out"
            return dict.fromkeys(("centred", "standardise", "wrong"), why)
        if self.refine.standardise:
            return {"centred": "standardised logits are centred: leave one of them out"}
        return {}

    def forward(self, streams: Streams, progress: float) -> Outcome:
        made = taught_pass(self, streams)
        y, alpha = streams["labelled"].y, value_at(self.alpha, progress)
        given = self.refine.guidance(made.said, made.answers, y)
        apart = squared_difference(given.student, given.teacher, self.centred)
        return made.outcome(
            self.features(made.seen(progress)),
            {
                "distillation": alpha * given.mean(apart),
                "labels": (1 - alpha) * self.task.loss(made.known, y, self.class_weights).mean(),
            },
        )
