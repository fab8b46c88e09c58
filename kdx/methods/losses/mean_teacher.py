"""Mean Teacher (Tarvainen and Valpola 2017, arXiv 1703.01780): the student agrees with the average of its own
past on another view.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kdx.core.checks import choice, number
from kdx.core.math import cross_entropy, kl
from kdx.core.task import Categorical
from kdx.core.trees import joined
from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.methods.forward import rows_of_step
from kdx.models.ema import Average, mean_teacher_decay


def ramp_up(x: float) -> float:
    """exp(-5 (1 - x)^2) for x in [0, 1], then 1: the sigmoid-shaped ramp of the authors' code. x = 0, .5, 1:
    .006738, .286505, 1.
    """
    return math.exp(-5 * (1 - min(x, 1.0)) ** 2)


def disagreement(student: Tensor, teacher: Tensor, measure: str) -> Tensor:
    """(B, C), (B, C) logits -> (B,): "mse" is the mean over the C classes of the squared difference of
    probabilities, in [0, 2 / C]; "kl" is KL(teacher || student), nats. As the authors' code, which divides
    its sum by the classes for mse only.
    """
    if measure == "kl":
        return kl(student, teacher, 1)
    return (student.float().softmax(1) - teacher.float().softmax(1)).square().mean(dim=1)


class MeanTeacher(Objective):
    """loss = (sum over labelled rows of cross-entropy + weight * ramp * sum over all rows of `disagreement`
    with the average) / all rows.

    Both terms are divided by all rows of the batch, labelled or not, as in the authors' code: at a labelled
    share of 1/4 the labels have a quarter of the weight that a mean over the labelled rows would give them,
    and it is beside such a term that the authors' weights stand.

    The student sees the view "main", the average the view "second" of the same rows, and both their own
    dropout (the average answers in train mode, as in the authors' code). The average is updated after each
    step and is what is evaluated and saved. decay in [0, 1), reached by min(1 - 1 / (step + 1), decay);
    weight >= 0; consistency: mse | kl; ramp in [0, 1]: share of the training over which `ramp_up` goes from 0
    to 1 (0: none).
    Deviations: the average of batch normalisation's running statistics is taken too (see `Average`); one
    decay instead of .99 then .999; no second head for the labels; optimiser and schedule are those of
    student_train.
    """

    uses = ("labelled",)
    needs_task = Categorical
    may_use = ("unlabelled",)
    reads = ()
    extra_views = ("second",)

    def __init__(self, parts: Parts, *, decay: float, weight: float, consistency: str, ramp: float):
        super().__init__(parts)
        decay = number("loss.decay", decay, low=0, high=1, open_high=True)
        self.weight = number("loss.weight", weight, low=0)
        self.measure = choice("loss.consistency", consistency, ("mse", "kl"))
        self.ramp = number("loss.ramp", ramp, low=0, high=1)
        self.average = Average(parts.student, rule=mean_teacher_decay, decay=decay)

    def forward(self, streams: Streams, progress: float) -> Outcome:
        labelled = streams["labelled"]
        batches, shown = rows_of_step(streams, self.may_use)
        logits = self.student(shown)
        with torch.no_grad():
            answers = self.average.network(joined([b.views["second"] for b in batches]))
        ramp = ramp_up(progress / self.ramp) if self.ramp else 1.0
        return Outcome(
            terms={
                "labels": cross_entropy(logits[: len(labelled)], labelled.y, self.class_weights).sum()
                / len(logits),
                "consistency": self.weight * ramp * disagreement(logits, answers, self.measure).mean(),
            },
            monitors={"agreement": lambda: (logits.argmax(1) == answers.argmax(1)).float().mean()},
        )

    def after_step(self) -> None:
        self.average.update(self.student)

    def export(self) -> nn.Module:
        return self.average.network
