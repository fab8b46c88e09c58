"""Adversarial distillation, experimental: a critic learns to tell the teacher's answers from the student's,
and the student learns to be taken for the teacher (Goodfellow et al. 2014, arXiv 1406.2661, on answers as in
Xu, Hsu and Huang 2018, arXiv 1709.00513).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from kdx.core.checks import integer, number
from kdx.core.task import Categorical
from kdx.core.types import Objective, Outcome, ParameterGroup, Parts, Streams
from kdx.methods.forward import taught_pass


class Critic(nn.Module):
    """(B, C) log-probabilities -> (B,) the logit of "these are the teacher's": one hidden layer."""

    def __init__(self, classes: int, hidden: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(classes, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))

    def forward(self, answers: Tensor) -> Tensor:
        found: Tensor = self.layers(answers)[:, 0]
        return found


class Adversarial(Objective):
    """loss = alpha * mean over all rows of match(student, teacher, T) + (1 - alpha) * mean over labelled rows
    of the task's own loss + weight * mean over all rows of -log D(student) + the critic's 0.5 * mean of [-log
    D(teacher) - log(1 - D(student))], D in (0, 1) the critic's belief that an answer is the teacher's.

    The third term moves the student alone and the last one the critic alone, each with the other held fixed.
    The critic reads log-probabilities at temperature 1, and so answers in full, stored or live. temperature >
    0, alpha in [0, 1] as in `kd`; weight >= 0: 0 is `kd`, beside which a critic learns that nobody asks;
    hidden >= 1: the width of the critic's one layer; rate >= 0: the critic's, times the stage's. The number
    to watch is `critic`, how often it tells right: 0.5 says that it knows no difference, or that its rate is
    0. Limit: where both answer alike the critic's term is ln 2 at its best. Experimental: no paper measures
    it in this form. Cost: two small passes more a row.
    """

    uses = ("labelled",)
    may_use = ("unlabelled",)
    needs_task = Categorical
    task: Categorical

    def __init__(
        self,
        parts: Parts,
        *,
        temperature: float,
        alpha: float,
        weight: float,
        hidden: int,
        rate: float,
    ):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.temperature = number("loss.temperature", temperature, low=0, open_low=True)
        self.alpha = number("loss.alpha", alpha, low=0, high=1)
        self.weight = number("loss.weight", weight, low=0)
        self.rate = number("loss.rate", rate, low=0)
        self.critic = Critic(len(self.task.classes), integer("loss.hidden", hidden, low=1, high=1 << 16))

    def forward(self, streams: Streams, progress: float) -> Outcome:
        made = taught_pass(self, streams)
        own, taught = self._read(made.said), self._read(made.answers)
        fixed = {name: value.detach() for name, value in self.critic.named_parameters()}
        fooled = functional_call(self.critic, fixed, own)
        on_own, on_taught = self.critic(own.detach()), self.critic(taught)
        labels = self.task.loss(made.known, streams["labelled"].y, self.class_weights).mean()
        right = torch.cat([on_own <= 0, on_taught > 0])
        return Outcome(
            terms={
                "distillation": self.alpha
                * self.task.match(made.said, made.answers, self.temperature).mean(),
                "labels": (1 - self.alpha) * labels,
                "fool": self.weight * F.softplus(-fooled).mean(),
                "critic": 0.5 * (F.softplus(-on_taught).mean() + F.softplus(on_own).mean()),
            },
            monitors={**made.monitors(), "critic": right.float().mean()},
        )

    def _read(self, answers: Tensor) -> Tensor:
        """(B, C) logits -> (B, C) log-probabilities, float32 at least: a shift of all logits, which means
        nothing, is not seen."""
        return answers.log_softmax(1) if answers.dtype == torch.float64 else answers.float().log_softmax(1)

    def groups(self) -> Sequence[ParameterGroup]:
        student = [p for p in self.student.parameters() if p.requires_grad]
        return [
            ParameterGroup("student", student),
            ParameterGroup("critic", list(self.critic.parameters()), self.rate),
        ]
