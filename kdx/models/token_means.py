"""A frozen encoder without context as a teacher: what the vectors of single tokens tell, a control of all
that begins with such."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kdx.core.answers import Answers
from kdx.core.task import Task
from kdx.core.types import Inputs
from kdx.models import reads
from kdx.models.pretrained_encoder import FrozenEncoder
from kdx.models.text import PADDING, TEXTS_READ

_A = 0.001
"""A token weighs a / (a + frequency) (Arora et al. 2017)."""
_TOKENS = 512
"""That are forwarded together, each as a text of its own."""


@reads(TEXTS_READ)
class TokenMeans(FrozenEncoder):
    """Logistic regression as of FrozenEncoder on another vector of a text: the mean of its tokens', each
    forwarded through the encoder alone, centred by those of the labelled texts, weighed by how rare it is
    there, and brought to length 1. So the order of words and their context are lost.
    """

    def __init__(self, **keys: Any):
        super().__init__(**keys)
        self.frequency: Tensor
        self.centre: Tensor
        self.register_buffer("frequency", torch.zeros(1))
        self.register_buffer("centre", torch.zeros(1))

    def fit(self, inputs: Inputs, truth: Answers, task: Task) -> None:
        assert isinstance(inputs, Tensor)
        counts = inputs.long().flatten().bincount(minlength=self._rows())
        counts[PADDING] = 0
        self.frequency = (counts / counts.sum().clamp(min=1)).float()
        self.centre = self._alone(counts.nonzero()[:, 0]).mean(0)
        super().fit(inputs, truth, task)

    def _rows(self) -> int:
        """Numbers that a token may be."""
        assert self.sentences is not None
        rows: int = next(
            part for part in self.sentences.modules() if isinstance(part, torch.nn.Embedding)
        ).num_embeddings
        return rows

    def vectors(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, D), zeros where no token is"""
        found, place = tokens.unique(return_inverse=True)
        weight = _A / (_A + self.frequency[found.long()]) * (found != PADDING)
        each = (self._alone(found) - self.centre) * weight[:, None]
        return F.normalize(F.embedding_bag(place, each, mode="sum"), dim=1)

    @torch.no_grad()
    def _alone(self, tokens: Tensor) -> Tensor:
        """(N,) -> (N, D)"""
        return torch.cat([super(TokenMeans, self).vectors(some[:, None]) for some in tokens.split(_TOKENS)])
