"""DeiT's distillation token (Touvron, Cord, Douze, Massa, Sablayrolles and Jégou 2021, ICML, "Training
data-efficient image transformers & distillation through attention", arXiv 2012.12877)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kdx.core.checks import flag, number
from kdx.core.divergence import over_temperature
from kdx.core.errors import WrongStudent
from kdx.core.task import Categorical
from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.methods.forward import known_and_own, taught_pass
from kdx.methods.hidden_terms import HiddenTerms
from kdx.models.distillation_token import token_heads
from kdx.models.tap import Tap


def first_choice_cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """(N, C) logits of both -> (N,): cross-entropy of the student with the teacher's first choice, nats,
    >= 0."""
    return F.cross_entropy(over_temperature(student, 1), teacher.argmax(1), reduction="none")


class DistillationToken(Objective):
    """loss = alpha * mean over all rows of d(distillation token, teacher) + (1 - alpha) * mean over labelled
    rows of cross-entropy of the class token with the label.

    hard: d is the cross-entropy with the teacher's first choice, alpha 1/2 in the paper (its equation 3);
    else T^2 KL(teacher^T || token^T), alpha 0.1 and T 3 there (its equation 2). alpha in [0, 1]; temperature
    > 0, of that alone. The student's own answer, which is what is measured and exported, is the mean of the
    probabilities of both; no term reads it.

    Deviations: labels are not smoothed (0.1 there). Both softmaxes are added, as the paper says, where the
    authors' code has the mean of logits; a network of timm (deit_*_distilled) answers by that. Rows of a
    pool, which the paper has none of, teach the distillation token too. Cost: that of kd, and one token more.
    """

    uses = ("labelled",)
    may_use = ("unlabelled",)
    needs_task = Categorical

    def __init__(self, parts: Parts, *, hard: bool, alpha: float, temperature: float, features: Any):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.hard = flag("loss.hard", hard)
        self.alpha = number("loss.alpha", alpha, low=0, high=1)
        self.temperature = number("loss.temperature", temperature, low=0, open_low=True)
        self.features = HiddenTerms(features, parts)
        heads = token_heads(parts.student)
        if heads is None:
            raise WrongStudent(
                "loss=distillation_token teaches a second token of a vision transformer, and this student "
                "has none: choose student=vit_tiny with student.distillation_token=true, or loss=kd"
            )
        self.taps = [Tap(head, at="output") for head in heads]

    def idle(self) -> Mapping[str, str]:
        if self.alpha == 0:
            why = "loss.alpha=0 gives the teacher's answers no weight: leave one of them out"
            return {"temperature": why, "hard": why}
        if self.hard:
            return {"temperature": "a first choice has none: set loss.hard=false, or leave it out"}
        return {}

    def forward(self, streams: Streams, progress: float) -> Outcome:
        made = taught_pass(self, streams)
        by_class, by_distillation = (tap.take() for tap in self.taps)
        known, _ = known_and_own(by_class, len(streams["labelled"]))
        if self.hard:
            apart = first_choice_cross_entropy(by_distillation, made.answers)
        else:
            apart = self.task.match(by_distillation, made.answers, self.temperature)
        labels = self.task.loss(known, streams["labelled"].y, self.class_weights)
        return made.outcome(
            self.features(made.seen(progress)),
            {"distillation": self.alpha * apart.mean(), "labels": (1 - self.alpha) * labels.mean()},
        )
