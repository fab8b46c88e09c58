"""The answers of a network that learned other classes, in ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


class Renamed(nn.Module):
    """(B, K') logits of their classes -> (B, K) logits of ours: the probability of each is the sum of those
    of theirs that are it, over what all mapped ones have; a row of which nothing is mapped tells nothing, all
    classes alike. It has no weights, and no place in a state dict.

    places: of each of theirs its place among ours, -1: none. classes: K.
    """

    def __init__(self, places: Sequence[int], classes: int):
        super().__init__()
        sums = torch.zeros(len(places), classes)
        for there, here in enumerate(places):
            if here >= 0:
                sums[there, here] = 1
        self.register_buffer("sums", sums, persistent=False)
        self.sums: Tensor

    def forward(self, logits: Tensor) -> Tensor:
        found = logits.float().softmax(1) @ self.sums
        return (found / found.sum(1, keepdim=True).clamp_min(1e-30)).clamp_min(1e-30).log()

    def lost(self, logits: Tensor) -> Tensor:
        """(B, K') -> (B,) the probability of what has no class of ours, in [0, 1]."""
        return 1 - (logits.float().softmax(1) @ self.sums).sum(1)


@dataclass(frozen=True)
class OfOtherClasses:
    """A model described, as `kdx.models.build_for` takes it, of a network that learned other classes. places:
    as of `Renamed`."""

    model: Any
    places: Sequence[int]

    @property
    def target(self) -> str:
        return str(self.model.target)

    def resolve(self) -> Any:
        return self.model.resolve()

    @property
    def spec(self) -> Any:
        return self.model.spec

    def without(self, key: str) -> OfOtherClasses:
        return OfOtherClasses(self.model.without(key), self.places)

    def build(self, **more: Any) -> Any:
        return self.model.build(**more)
