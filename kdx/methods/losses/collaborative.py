"""Collaborative learning (Song and Chai 2018, NeurIPS, arXiv 1805.11761): several heads on one trunk, each
taught by the others, so that peers share what they compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from kdx.core.checks import number
from kdx.core.errors import UserError
from kdx.core.math import kl
from kdx.core.task import Categorical
from kdx.core.types import Objective, Outcome, ParameterGroup, Parts, Streams
from kdx.methods.peers import all_answer, count_of_peers, mean_agreement, term_name
from kdx.models.branches import Branches


class Collaborative(Objective):
    """For each head h of H: beta * mean over labelled rows of cross-entropy + (1 - beta) * mean over all rows
    of T^2 KL(softmax(m_h / T) || softmax(z_h / T)), m_h the mean of the other heads' logits, without
    gradient; the sum over h is minimised.

    The student is the trunk with the first head, and is exported alone. The other heads have layers of their
    own, with fresh weights, from `branch_at` on: a layer's name, or auto, the one after which fewer than half
    of them come; what lies before is computed once. The gradient of the trunk is divided by H, as the paper's
    rescaling does. heads: H >= 2. temperature > 0; beta in [0, 1], 1: no head reads another; rate >= 0: of
    the further heads, times the stage's. Limit: where all heads give equal logits the second term is 0. The
    abstract has the shared layers and the rescaling; that it is by 1 / H, the mean of logits, T = 2 and beta
    = 0.5 were checked against a re-implementation by others alone, which has cross-entropy to soft targets,
    of KL's gradient, without the factor T^2 (ours, as in kd). The paper's equations were not. Cost: one pass
    through the trunk and H through the rest, where `mutual` has H whole ones; measured by
    scripts/bench_peers.py.
    """

    uses = ("labelled",)
    may_use = ("unlabelled",)
    needs_task = Categorical
    reads = ()

    def __init__(
        self, parts: Parts, *, heads: int, branch_at: str, temperature: float, beta: float, rate: float
    ):
        super().__init__(parts)
        count = count_of_peers("loss.heads", heads)
        self.temperature = number("loss.temperature", temperature, low=0, open_low=True)
        self.beta = number("loss.beta", beta, low=0, high=1)
        self.rate = number("loss.rate", rate, low=0)
        if parts.example is None:
            raise UserError("loss=collaborative looks into the student with one row, and there is none")
        self.branches = Branches(
            parts.student, parts.new_student, further=count - 1, at=branch_at, example=parts.example
        )

    def forward(self, streams: Streams, progress: float) -> Outcome:
        together = all_answer(streams, self.may_use, self.branches)
        y, terms = streams["labelled"].y, {}
        for place, (logits, known) in enumerate(zip(together.said, together.known, strict=True)):
            labels = self.task.loss(known, y, self.class_weights).mean()
            match = kl(logits, torch.stack(together.others(place)).mean(0), self.temperature).mean()
            terms[term_name(place, "labels", "head")] = self.beta * labels
            terms[term_name(place, "heads", "head")] = (1 - self.beta) * match
        agreement = partial(mean_agreement, self.task, together.said[0], together.others(0))
        return Outcome(terms, {"agreement": agreement})

    def groups(self) -> Sequence[ParameterGroup]:
        student = [p for p in self.student.parameters() if p.requires_grad]
        heads = [p for head in range(len(self.branches.heads)) for p in self.branches.own(head)]
        return [ParameterGroup("student", student), ParameterGroup("heads", heads, self.rate)]
