"""Teacher-bounded regression (Chen, Choi, Yu, Han and Chandraker 2017, "Learning Efficient Object Detection
Models with Knowledge Distillation", equations 4 and 5): a student is pulled to the truth harder where it is
worse than its teacher."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kdx.core.checks import number
from kdx.core.task import Numeric
from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.methods.forward import one_pass


def bounded(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """(B,) losses of the student and of the teacher, >= 0 -> (B,): the student's where it and `margin` are
    more than the teacher's, else 0 (equation 4). Without gradient through the comparison.
    """
    return torch.where(student.detach() + margin > teacher, student, torch.zeros_like(student))


class TeacherBounded(Objective):
    """loss = mean over labelled rows of the task's own loss + weight * mean over labelled rows of `bounded` +
    pool * mean over pool rows of match(student, teacher).

    weight >= 0 (the paper's nu, 0.5 there); margin >= 0, in units of the task's loss, of numbers squared
    deviations of the labels. The paper has a truth for every row, and smooth L1 for the first term; a pool
    has none to bound by, so its rows learn the teacher's answers, weight `pool` >= 0. With weight = 0 and
    no pool this is `supervised`. A teacher that knows its training rows by heart, as forests and boosting do,
    bounds nothing there.
    """

    uses = ("labelled",)
    may_use = ("unlabelled",)
    needs_task = Numeric

    def __init__(self, parts: Parts, *, weight: float, margin: float, pool: float):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.weight = number("loss.weight", weight, low=0)
        self.margin = number("loss.margin", margin, low=0)
        self.pool = number("loss.pool", pool, low=0)

    def idle(self) -> Mapping[str, str]:
        why = "loss.weight=0 gives the bounded term no weight: leave one of them out"
        return {"margin": why} if self.weight == 0 else {}

    def forward(self, streams: Streams, progress: float) -> Outcome:
        made = one_pass(streams, self.student, self.may_use)
        labelled = streams["labelled"]
        losses = self.task.loss(made.known, labelled.y)
        limit = bounded(losses, self.task.loss(self.teacher(labelled), labelled.y), self.margin)
        terms = {"labels": losses.mean(), "bounded": self.weight * limit.mean()}
        for batch in made.batches[1:]:
            terms["pool"] = self.pool * self.task.match(made.own, self.teacher(batch), 1.0).mean()
        return Outcome(terms, {"above_teacher": (limit > 0).float().mean()})
