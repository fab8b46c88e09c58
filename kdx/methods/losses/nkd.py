"""Normalised knowledge distillation, NKD (Yang, Zeng, Li, Zhang, Yuan and Li 2023, "From Knowledge
Distillation to Self-Knowledge Distillation", arXiv 2303.13005)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kdx.core.checks import number
from kdx.core.divergence import over_temperature
from kdx.core.task import Categorical
from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.methods.forward import taught_pass
from kdx.methods.hidden_terms import HiddenTerms
from kdx.methods.logits import checked_setting, other_logits, refinement, value_at


def target_cross_entropy(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """(N, C) logits of both, (N,) classes -> (N,): - q log p, the target's probabilities of teacher and
    student at temperature 1, nats, >= 0."""
    log_p, log_q = (over_temperature(logits, 1).log_softmax(1) for logits in (student, teacher))
    where = target[:, None]
    return -(log_q.gather(1, where).exp() * log_p.gather(1, where))[:, 0]


def other_cross_entropy(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """(N, C) logits of both, (N,) classes -> (N,): T^2 times the cross-entropy of the student with the
    teacher over the classes but the target, whose probabilities at T add up to 1, nats, >= 0.

    Where both are the same it is the entropy, not 0; its gradient is that of the KL.
    """
    log_p, log_q = (
        over_temperature(other_logits(logits, target), temperature).log_softmax(1)
        for logits in (student, teacher)
    )
    return -(temperature**2) * (log_q.exp() * log_p).sum(1)


class NKD(Objective):
    """loss = weight * mean over all rows of (target part + gamma * non-target part) + mean over labelled rows
    of cross-entropy.

    The target part is `target_cross_entropy`, the label's cross-entropy weighed by how sure the teacher is of
    it, at temperature 1 always; the non-target part is `other_cross_entropy`. Plain distillation is the
    target part + (1 - q) (non-target part - log(1 - p)), T = 1.
    weight, gamma >= 0; temperature > 0, or [from, to], a straight line over the training. standardise, of
    both parts, and wrong: see `kdx.methods.logits.Refinement`.

    Deviations: rows of a pool have no label, and the teacher's first choice stands in for it; of mixed
    labels the likelier class is the target, as the authors' code has it. Theirs are weight 1, gamma 1.5 and
    temperature 1. With weight = 0 and no pool this is `supervised`. Cost: that of kd.
    """

    uses = ("labelled",)
    may_use = ("unlabelled",)
    needs_task = Categorical

    def __init__(
        self,
        parts: Parts,
        *,
        temperature: float | Sequence[float],
        gamma: float,
        weight: float,
        standardise: bool,
        wrong: str,
        features: Any,
    ):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.features = HiddenTerms(features, parts)
        self.temperature = checked_setting("loss.temperature", temperature, low=0, open_low=True)
        self.gamma = number("loss.gamma", gamma, low=0)
        self.weight = number("loss.weight", weight, low=0)
        self.refine = refinement(self.task, standardise, wrong)

    def idle(self) -> Mapping[str, str]:
        if self.weight == 0:
            why = "loss.weight=0 gives the teacher's answers no weight: leave one of them out"
            return dict.fromkeys(("temperature", "gamma", "standardise", "wrong"), why)
        if self.task.width == 2:
            why = "of two classes there is one beside the label, which tells nothing: leave it out"
            return {"gamma": why, "temperature": why}
        if self.gamma == 0:
            return {"temperature": "it is of the non-target part, and loss.gamma=0: leave one of them out"}
        return {}

    def forward(self, streams: Streams, progress: float) -> Outcome:
        made = taught_pass(self, streams)
        y, temperature = streams["labelled"].y, value_at(self.temperature, progress)
        given = self.refine.guidance(made.said, made.answers, y)
        compared = (given.student, given.teacher, given.target)
        others = other_cross_entropy(*compared, temperature)
        return made.outcome(
            self.features(made.seen(progress)),
            {
                "target": self.weight * given.mean(target_cross_entropy(*compared)),
                "non_target": self.weight * self.gamma * given.mean(others),
                "labels": self.task.loss(made.known, y, self.class_weights).mean(),
            },
        )
