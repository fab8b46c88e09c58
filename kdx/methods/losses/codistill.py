"""Codistillation (Anil, Pereyra, Passos, Ormandi, Dahl and Hinton 2018, arXiv 1804.03235): copies that learn
apart first, and then from each other's answers, here averaged over the epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from kdx.core.checks import number
from kdx.core.errors import UserError
from kdx.core.task import Categorical
from kdx.core.types import Objective, Outcome, ParameterGroup, Parts, Streams
from kdx.methods.peers import (
    Standing,
    Together,
    all_answer,
    count_of_peers,
    each_of,
    groups_of,
    mean_agreement,
    one_each,
    term_name,
)
from kdx.methods.row_memory import RowMemory


class Codistill(Objective):
    """For each network i of K: mean over labelled rows of the task's own loss + weight_i * on * mean over all
    rows of KL(q_i || p_i), q_i the mean of the others' probabilities, without gradient; the sum over i is
    minimised.

    on is 0 before the share `delay` of the training, then 1: before it networks have nothing to teach, and
    would only grow alike (the paper's burn-in, its text not checked). The others' probabilities of a row are
    averaged over the epochs with the factor smoothing in [0, 1), from the first step on, the present ones
    among them: 0 takes the present ones alone, and a larger one makes targets that move slowly, as those of
    the paper, which come from checkpoints of some time ago. peers: K >= 2, of the student's architecture with
    weights of their own. weight >= 0, rate >= 0: for all, or a list of K, the student's first. The student is
    exported. Limits: delay 0 and smoothing 0 with two networks is `mutual`; weight 0 is `supervised`, as
    there. Deviations: KL in place of cross-entropy to q, of the same gradient; all networks see the same
    batch, where those of the paper see disjoint parts of the data; averaged answers where the paper's may
    come from a stale version of the other network (both by its abstract). Cost: K forward and backward passes
    a step, K times the weights, and 4 K C bytes a row of memory.
    """

    uses = ("labelled",)
    remembers = True
    may_use = ("unlabelled",)
    needs_task = Categorical
    reads = ()
    task: Categorical

    def __init__(
        self,
        parts: Parts,
        *,
        peers: int,
        delay: float,
        smoothing: float,
        weight: float | Sequence[float],
        rate: float | Sequence[float],
    ):
        super().__init__(parts)
        count = count_of_peers("loss.peers", peers)
        self.delay = number("loss.delay", delay, low=0, high=1, open_high=True)
        smoothing = number("loss.smoothing", smoothing, low=0, high=1, open_high=True)
        self.weight = one_each("loss.weight", weight, count)
        self.rate = one_each("loss.rate", rate, count)
        self.peers = nn.ModuleList(parts.new_student() for _ in range(count - 1))
        rows = {name: parts.rows[name] for name in ("labelled", "unlabelled") if parts.rows.get(name)}
        self.memory = RowMemory(rows, count, len(self.task.classes), smoothing)
        self.standing = Standing(count, self.task)

    def forward(self, streams: Streams, progress: float) -> Outcome:
        together = all_answer(streams, self.may_use, partial(each_of, [self.student, *self.peers]))
        y = streams["labelled"].y
        if isinstance(y, Tensor) and y.is_floating_point() and self.memory.smoothing:
            raise UserError(
                "loss.smoothing averages what is answered to a row, and mixup makes rows of two: leave mixup "
                "out, or set loss.smoothing=0"
            )
        remembered = self._remembered(together)
        on = float(progress >= self.delay)
        terms = {}
        for place, (said, known) in enumerate(zip(together.said, together.known, strict=True)):
            terms[term_name(place, "labels")] = self.task.loss(known, y, self.class_weights).mean()
            others = [other for other in range(len(together.said)) if other != place]
            target = remembered[:, others].mean(1)
            terms[term_name(place, "peers")] = self.weight[place] * on * kl_to(said, target).mean()
        if self.training:
            self.standing.note(together.known, y)
        agreement = partial(mean_agreement, self.task, together.said[0], together.others(0))
        return Outcome(terms, {"agreement": agreement})

    def _remembered(self, together: Together) -> Tensor:
        """(B, K, C) each network's probabilities of each row, averaged over the epochs."""
        now = torch.stack([self.task.probs(said.detach()) for said in together.said], 1)
        sizes = [len(batch) for batch in together.batches]
        found = [
            self.memory.visit(batch.split, batch.index, part, keep=self.training)
            for batch, part in zip(together.batches, now.split(sizes), strict=True)
        ]
        return torch.cat(found)

    def refresh(self) -> Mapping[str, float]:
        return self.standing.report()

    def ended(self, progress: float) -> str | None:
        if progress >= self.delay:
            return super().ended(progress)
        return (
            f"the training ended before loss.delay={self.delay:g} of it was done, so that the networks "
            "learned nothing from each other: set it lower, or train longer"
        )

    def groups(self) -> Sequence[ParameterGroup]:
        return groups_of(self.student, list(self.peers), self.rate)


def kl_to(logits: Tensor, target: Tensor) -> Tensor:
    """(B, C) logits, (B, C) probabilities -> (B,) KL(target || softmax(logits)), nats, >= 0; float32 at
    least."""
    log_p = (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(1)
    return (torch.special.xlogy(target, target) - target * log_p).sum(1)
