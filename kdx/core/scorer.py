"""A network that says how likely a row is, and gives no answer that others could be held against."""

from __future__ import annotations

from abc import ABC, abstractmethod

from kdx.core.answers import Answers
from kdx.core.trees import Tree


class Scorer(ABC):
    """A network that reads rows in a form of its own: of a row whose truth is known it tells how likely that
    is, and it answers nothing else. Its class says so by `answers = False`, which is read from its file.
    """

    @abstractmethod
    def score(self, rows: Tree, truth: Answers) -> Answers:
        """How likely the truth of B rows is, as the task knows it: `Task.condense` makes of it what is kept.
        Next tokens: {"log_prob": (B, L)} nats, at most 0."""
