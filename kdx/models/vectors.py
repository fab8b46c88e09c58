"""One vector for each text: what a network that makes such says of itself, for initialisers and terms that
look into a teacher without knowing its kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class MakesVectors(nn.Module, ABC):
    """A part of a network that makes one vector of each text."""

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) tokens, 0 behind the last -> (B, D)"""


def vectors_in(network: nn.Module) -> MakesVectors | None:
    """What makes one vector of a text in a network; None: it has no such part."""
    return next((part for part in network.modules() if isinstance(part, MakesVectors)), None)


def token_table(network: nn.Module) -> nn.Embedding | None:
    """The table of a network that has one, of the tokens that it reads; None: it has none, or several."""
    found = [part for part in network.modules() if isinstance(part, nn.Embedding)]
    return found[0] if len(found) == 1 else None
