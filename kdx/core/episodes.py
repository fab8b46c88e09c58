"""What a network can do that acts: its answers to a row say little, and what they lead to is what counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from kdx.core.answers import Answers
    from kdx.core.trees import Tree


@dataclass(frozen=True)
class Episodes:
    """T steps of B episodes. states: (T, B, ...) in which it acted. actions: (T, B) int64. rewards: (T, B)
    float, 0 where an episode is over. going: (T, B) bool, whether it was still going on before the step.
    """

    states: Tensor
    actions: Tensor
    rewards: Tensor
    going: Tensor

    @property
    def returns(self) -> Tensor:
        """(B,) the sum of each episode's rewards."""
        return self.rewards.sum(0)


class Acts(ABC):
    """A network whose rows are states, and whose answers to B of them, (B, K) logits, say how likely it takes
    each of K actions."""

    @abstractmethod
    def episodes(self, states: Tree, *, drawn: bool) -> Episodes:
        """Episodes that begin in these B states, without gradient. drawn: actions are drawn by torch's global
        generator; else the likeliest is taken.
        """

    @abstractmethod
    def acted(self, states: Tree) -> Answers:
        """What it answers to B states, and what becomes of the episodes that begin there, as the task knows
        it: for measuring."""
