"""Distillation of numbers by how sure the teacher is of each: weighted least squares (Aitken 1936; Nix and
Weigend 1994 for networks that tell a variance)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from kdx.core.checks import number
from kdx.core.errors import UserError
from kdx.core.task import Numeric
from kdx.core.trees import divided, joined, rows_of
from kdx.core.types import Objective, Outcome, Parts, Streams


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
        labelled = streams["labelled"]
        batches = [labelled, *(streams[s] for s in self.may_use if s in streams)]
        said = self.student(joined([b.views["main"] for b in batches]))
        answers = joined([self.teacher(b) for b in batches])
        variance = self.task.variance(answers)
        if variance is None:
            raise UserError(
                "loss=heteroscedastic weighs the teacher's answers by their variance, and this teacher "
                "tells none: choose one that does, such as teacher=sklearn "
                "teacher.estimator=RandomForestRegressor, or loss=kd"
            )
        weight = precision_weight(variance, self.noise)
        known = divided(said, [len(labelled), rows_of(said) - len(labelled)])[0]
        monitors = {"agreement": self.task.agreement(said, answers).float().mean(), "weight": weight.mean()}
        if len(batches) > 1:
            monitors["unlabelled/weight"] = weight[len(labelled) :]
        return Outcome(
            terms={
                "distillation": self.alpha * (weight * self.task.match(said, answers, 1.0)).mean(),
                "labels": (1 - self.alpha) * self.task.loss(known, labelled.y).mean(),
            },
            monitors=monitors,
        )
