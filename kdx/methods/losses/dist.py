"""DIST, distillation from a stronger teacher (Huang, You, Wang, Qian and Xu 2022, arXiv 2205.10536)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kdx.core.checks import number
from kdx.core.divergence import over_temperature
from kdx.core.errors import UserError
from kdx.core.task import Categorical
from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.methods.forward import taught_pass
from kdx.methods.hidden_terms import HiddenTerms
from kdx.methods.logits import checked_setting, refinement, value_at

_LEAST_NORM = 1e-8


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """(n, m), (n, m) -> (n,) in [-1, 1]: the correlation of each row of x with that of y; 0 where a row does
    not vary.
    """
    x, y = (one - one.mean(1, keepdim=True) for one in (x, y))
    return F.cosine_similarity(x, y, dim=1, eps=_LEAST_NORM)


class DIST(Objective):
    """loss = T^2 (beta * (1 - mean over rows of r_row) + gamma * (1 - mean over classes of r_class)) + mean
    over labelled rows of cross-entropy.

    r_row: the correlation of the student's probabilities of a row with the teacher's, over the classes (the
    paper's inter-class relation); r_class: of those of a class, over all rows of the batch,
    labelled and pool (intra-class). So a student need not reach the teacher's probabilities, only
    their relations: any shift and scale of them has r = 1.
    beta, gamma >= 0; temperature > 0, or [from, to], a straight line over the training, of both softmaxes.
    standardise: see `kdx.methods.logits.standardised`.

    Deviations: the paper's beta and gamma may be 2 (we could not check it); 1 is the authors' code, whose T^2
    and whose least norm of 1e-8 are followed too. r_class reads the batch as a whole: two rows at least
    (UserError), better as many as classes or more, and no batch in parts. With beta = gamma = 0 and no pool
    this is `supervised`. Cost: that of kd.
    """

    uses = ("labelled",)
    may_use = ("unlabelled",)
    needs_task = Categorical
    whole_batch = True

    def __init__(
        self,
        parts: Parts,
        *,
        temperature: float | Sequence[float],
        beta: float,
        gamma: float,
        standardise: bool,
        features: Any,
    ):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.features = HiddenTerms(features, parts)
        self.temperature = checked_setting("loss.temperature", temperature, low=0, open_low=True)
        self.beta = number("loss.beta", beta, low=0)
        self.gamma = number("loss.gamma", gamma, low=0)
        self.refine = refinement(self.task, standardise)
        self.least_rows = 2 if self.gamma else 1

    def idle(self) -> Mapping[str, str]:
        if self.beta == 0 and self.gamma == 0:
            why = "loss.beta=0 and loss.gamma=0 give the teacher's answers no weight: leave one of them out"
            return dict.fromkeys(("temperature", "standardise"), why)
        return {}

    def forward(self, streams: Streams, progress: float) -> Outcome:
        made = taught_pass(self, streams)
        if len(made.answers) < self.least_rows:
            raise UserError(
                "loss=dist compares the rows of a batch with each other, and this one has one: set "
                "student_train.batch_size=2 or more, or loss.gamma=0"
            )
        y, temperature = streams["labelled"].y, value_at(self.temperature, progress)
        given = self.refine.guidance(made.said, made.answers, y)
        p, q = (over_temperature(z, temperature).softmax(1) for z in (given.student, given.teacher))
        scale = temperature**2
        return made.outcome(
            self.features(made.seen(progress)),
            {
                "inter_class": scale * self.beta * (1 - pearson(p, q)).mean(),
                "intra_class": scale * self.gamma * (1 - pearson(p.T, q.T)).mean(),
                "labels": self.task.loss(made.known, y, self.class_weights).mean(),
            },
        )
