"""Distillation of numbers by how sure the teacher is of each: weighted least squares (Aitken 1936; Nix and
Weigend 1994 for networks that tell a variance)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from kdx.core.checks import number
from kdx.core.errors import lacks_answer
from kdx.core.task import Numeric
from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.methods.forward import taught_pass


def precision_weight(variance: Tensor, noise: float) -> Tensor:
    """(B, K) variances >= 0 -> (B,) in (0, 1]: the mean over the K numbers of noise / (noise + variance)

    What least squares weighs a number by that differs from the truth by the truth's own noise and the
    teacher's doubt, 1 / (noise + variance), times the noise: 1 where the teacher is sure.
    """
    return (noise / (noise + variance)).mean(1)


class Heteroscedastic(Objective):
    """loss = alpha * mean over all rows of w * match(student, teacher) + (1 - alpha) * mean over labelled
    rows of the task's own loss; w: `precision_weight` of the teacher's variance.

    alpha in [0, 1]. noise > 0: the variance of the truth that nobody can tell, in squared deviations of the
    labels. With noise without end w = 1, and this is `kd`. The teacher must tell its variance.
    """

    uses = ("labelled",)
    may_use = ("unlabelled",)
    needs_task = Numeric
    needs_answers: ClassVar = ("variance",)

    def __init__(self, parts: Parts, *, alpha: float, noise: float):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.alpha = number("loss.alpha", alpha, low=0, high=1)
        self.noise = number("loss.noise", noise, low=0, open_low=True)

    def forward(self, streams: Streams, progress: float) -> Outcome:
        made = taught_pass(self, streams)
        said, answers = made.said, made.answers
        variance = self.task.variance(answers)
        if variance is None:
            raise lacks_answer("loss=heteroscedastic", "variance")
        weight = precision_weight(variance, self.noise)
        monitors = {**made.monitors(), "weight": weight.mean()}
        if len(made.batches) > 1:
            monitors["unlabelled/weight"] = weight[len(streams["labelled"]) :]
        return Outcome(
            terms={
                "distillation": self.alpha * (weight * self.task.match(said, answers, 1.0)).mean(),
                "labels": (1 - self.alpha) * self.task.loss(made.known, streams["labelled"].y).mean(),
            },
            monitors=monitors,
        )
