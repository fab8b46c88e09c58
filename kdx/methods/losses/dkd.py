"""Decoupled knowledge distillation (Zhao, Cui, Song, Qiu and Liang 2022, arXiv 2203.08679)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kdx.core.checks import number
from kdx.core.divergence import over_temperature
from kdx.core.math import kl
from kdx.core.task import Categorical
from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.methods.forward import taught_pass
from kdx.methods.hidden_terms import HiddenTerms
from kdx.methods.logits import checked_setting, other_logits, refinement, value_at


def target_and_rest(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C) logits, (N,) classes -> log p and log(1 - p) of the target's probability, both (N,). Exact also
    where p is nearly 1.
    """
    whole = logits.logsumexp(1)
    return logits.gather(1, target[:, None])[:, 0] - whole, other_logits(logits, target).logsumexp(1) - whole


def target_divergence(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """(N, C) logits of both, (N,) classes -> (N,): T^2 times the KL of (q, 1 - q) from (p, 1 - p), the
    target's probabilities of teacher and student at T, nats, >= 0 (TCKD)."""
    log_p, log_rest_p = target_and_rest(over_temperature(student, temperature), target)
    log_q, log_rest_q = target_and_rest(over_temperature(teacher, temperature), target)
    return temperature**2 * (log_q.exp() * (log_q - log_p) + log_rest_q.exp() * (log_rest_q - log_rest_p))


def other_divergence(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """(N, C) logits of both, (N,) classes -> (N,): T^2 KL(teacher || student) over the classes but the
    target, whose probabilities add up to 1, nats, >= 0 (NCKD). 0 of two classes."""
    return kl(other_logits(student, target), other_logits(teacher, target), temperature)


class DKD(Objective):
    """loss = ramp * mean over all rows of (alpha * TCKD + beta * NCKD) + mean over labelled rows of
    cross-entropy.

    TCKD: `target_divergence`, of the label's probability alone. NCKD: `other_divergence`, of all other
    classes. KL = TCKD + (1 - q) NCKD with q the teacher's probability of the label, so plain distillation
    weighs NCKD least where the teacher is surest; here beta does.
    alpha, beta >= 0. temperature > 0, or [from, to], a straight line over the training. warmup in [0, 1]:
    ramp goes from 0 to 1 over this share of the training; 0 is none. standardise, wrong: see
    `kdx.methods.logits.Refinement`.

    Deviations: rows of a pool have no label, and the teacher's first choice stands in for it; of mixed
    labels the likelier class is the target. The authors' code warms up over 20 of 240 epochs, in steps of
    epochs, with temperature 4, alpha 1 and beta 8 (2 or 6 for other pairs), and cuts the target out by adding
    -1000 to its logit; here it is left out. With alpha = beta = 0 and no pool this is `supervised`.
    Cost: that of kd.
    """

    uses = ("labelled",)
    may_use = ("unlabelled",)
    needs_task = Categorical

    def __init__(
        self,
        parts: Parts,
        *,
        temperature: float | Sequence[float],
        alpha: float,
        beta: float,
        warmup: float,
        standardise: bool,
        wrong: str,
        features: Any,
    ):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.features = HiddenTerms(features, parts)
        self.temperature = checked_setting("loss.temperature", temperature, low=0, open_low=True)
        self.alpha = number("loss.alpha", alpha, low=0)
        self.beta = number("loss.beta", beta, low=0)
        self.warmup = number("loss.warmup", warmup, low=0, high=1)
        self.refine = refinement(self.task, standardise, wrong)

    def idle(self) -> Mapping[str, str]:
        if self.alpha == 0 and self.beta == 0:
            why = "loss.alpha=0 and loss.beta=0 give the teacher's answers no weight: leave one of them out"
            return dict.fromkeys(("temperature", "warmup", "standardise", "wrong"), why)
        if self.task.width == 2:
            return {"beta": "of two classes there is one beside the label, which tells nothing: leave it out"}
        return {}

    def ramp(self, progress: float) -> float:
        """What the teacher's terms are multiplied by, in [0, 1]."""
        return min(progress / self.warmup, 1.0) if self.warmup else 1.0

    def forward(self, streams: Streams, progress: float) -> Outcome:
        made = taught_pass(self, streams)
        y, temperature = streams["labelled"].y, value_at(self.temperature, progress)
        given = self.refine.guidance(made.said, made.answers, y)
        compared = (given.student, given.teacher, given.target, temperature)
        ramp = self.ramp(progress)
        return made.outcome(
            self.features(made.seen(progress)),
            {
                "target": ramp * self.alpha * given.mean(target_divergence(*compared)),
                "non_target": ramp * self.beta * given.mean(other_divergence(*compared)),
                "labels": self.task.loss(made.known, y, self.class_weights).mean(),
            },
        )
