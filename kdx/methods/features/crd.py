"""Contrastive representation distillation (Tian, Krishnan and Isola 2020, arXiv 1910.10699): a row's feature
in the student tells that row's feature in the teacher from those of other rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdx.core.checks import integer, number
from kdx.core.count import Count
from kdx.core.errors import UserError
from kdx.core.trees import moved
from kdx.core.types import Batch, Features, Parts, Shown
from kdx.models.row_features import RowFeatures, in_full

_LEAST = 1e-7
"""Added where a share is taken, as in the authors' code."""
_NO_STREAMS = ("validation", "test")


def contrast_loss(scores: Tensor, rows: int) -> Tensor:
    """(B, 1 + K) > 0, the first of the row itself and K of others -> (): the noise-contrastive loss with K
    negatives out of so many rows, summed over them, nats, mean over B.

    Equation 18 of the paper: -log h of the first - sum of log (1 - h) of the others, with h = score / (score
    + K / rows).
    """
    noise = (scores.shape[1] - 1) / rows
    right = scores[:, 0] / (scores[:, 0] + noise + _LEAST)
    wrong = noise / (scores[:, 1:] + noise + _LEAST)
    return -(right.log() + wrong.log().sum(1)).mean()


def others_of(rows: Tensor, total: int, count: int, generator: torch.Generator) -> Tensor:
    """(B,) rows of `total` -> (B, K) others of each, never itself: all of them where these are no more than
    `count`, else so many, drawn with replacement."""
    if total - 1 <= count:
        places = torch.arange(total - 1, device=rows.device).expand(len(rows), -1)
    else:
        places = torch.randint(total - 1, (len(rows), count), generator=generator, device=rows.device)
    return places + (places >= rows[:, None])


class CRD(Features):
    """term contrast = weight * (`contrast_loss` of the student's embedding with the teacher's memory +
    `contrast_loss` of the teacher's embedding with the student's memory).

    Each feature is led by a learned linear layer to `width` numbers, and to length 1; the scores are
    exp(product / temperature) / Z, with Z such that they had the mean 1 / rows in the first batch. A memory
    holds the last embedding of every row, of each network: it is moved by memory * momentum + embedding * (1
    - momentum), and to length 1 again. weight >= 0, negatives >= 1, temperature > 0, width >= 1, momentum in
    [0, 1). student, teacher: see kdx.models.row_features.RowFeatures.
    Deviations: negatives are any other rows, as labels of a pool are not known (the authors' code draws them
    among rows of other classes), and all of them where the data have fewer than asked for. They are drawn
    from a generator of their own, which the step decides, so that a resume is exact.
    Cost: the teacher's network forwards each batch; two memories of rows * width numbers, which checkpoints
    hold; each step compares the batch with all rows.
    """

    whole_batch = True
    least_rows = 2

    def __init__(
        self,
        parts: Parts,
        *,
        weight: float,
        negatives: int,
        temperature: float,
        width: int,
        momentum: float,
        student: str | Sequence[str],
        teacher: str | Sequence[str],
    ):
        super().__init__()
        self.weight = number("loss.features.crd.weight", weight, low=0)
        self.negatives = integer("loss.features.crd.negatives", negatives, low=1)
        self.temperature = number("loss.features.crd.temperature", temperature, low=0, open_low=True)
        self.momentum = number("loss.features.crd.momentum", momentum, low=0, high=1, open_high=True)
        width = integer("loss.features.crd.width", width, low=1)
        self.rows = RowFeatures(parts, student=student, teacher=teacher)
        streams = {name: count for name, count in parts.rows.items() if name not in _NO_STREAMS and count}
        self.first = {name: sum(list(streams.values())[:at]) for at, name in enumerate(streams)}
        self.total = sum(streams.values())
        if self.total < 2:
            raise UserError(f"loss.features=crd tells rows apart, and there is {self.total}: give it more")
        self.seed = torch.initial_seed()
        with torch.random.fork_rng(devices=[]):  # the student's own noise stays what it is without this term
            self.embeddings = nn.ModuleList(nn.Linear(size, width) for size in self.rows.widths)
            for name in ("student_memory", "teacher_memory"):
                self.register_buffer(name, F.normalize(torch.randn(self.total, width), dim=1))
        self.register_buffer("scale", torch.zeros(2))  # Z of both; 0: not known yet
        self.steps = Count()

    def forward(self, shown: Shown) -> Mapping[str, Tensor]:
        features = self.rows.take(shown.inputs)
        with in_full(features[0]):
            return self.contrasted(features, shown.batches)

    def contrasted(self, features: Sequence[Tensor], batches: Sequence[Batch]) -> Mapping[str, Tensor]:
        own, others = (
            F.normalize(embed(feature), dim=1)
            for embed, feature in zip(self.embeddings, features, strict=True)
        )
        rows = moved(self.numbers(batches), own.device)
        generator = torch.Generator(own.device).manual_seed((self.seed + self.steps.done) % 2**63)
        asked = torch.cat([rows[:, None], others_of(rows, self.total, self.negatives, generator)], 1)
        apart = [
            contrast_loss(self.scores(at, embedding, memory, asked), self.total)
            for at, (embedding, memory) in enumerate(
                ((own, self.teacher_memory), (others, self.student_memory))
            )
        ]
        if self.training:
            self.remember(rows, own.detach(), others.detach())
        return {"contrast": self.weight * sum(apart)}

    def numbers(self, batches: Sequence[Batch]) -> Tensor:
        """(B,) the rows' places in the memories."""
        return torch.cat([batch.index + self.first[batch.split] for batch in batches])

    def scores(self, at: int, embedding: Tensor, memory: Tensor, asked: Tensor) -> Tensor:
        """(B, width), (rows, width), (B, 1 + K) -> (B, 1 + K)"""
        # the memory is moved below, and a gradient needs it as it was
        raw = ((embedding @ memory.clone().T) / self.temperature).gather(1, asked).exp()
        known = self.scale[at].clone()
        scale = torch.where(known == 0, raw.detach().mean() * self.total, known)
        if self.training:
            self.scale[at] = scale
        return raw / scale

    @torch.no_grad()
    def remember(self, rows: Tensor, own: Tensor, others: Tensor) -> None:
        for memory, new in ((self.student_memory, own), (self.teacher_memory, others)):
            memory[rows] = F.normalize(memory[rows] * self.momentum + new * (1 - self.momentum), dim=1)
        self.steps.next()
