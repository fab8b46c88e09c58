"""A metric of the user's own."""

from __future__ import annotations

from abc import ABC, abstractmethod

from kdx.core.answers import Answers
from kdx.core.metric import Metric


class OwnMetric(ABC):
    """A metric of the user's own, measured beside the task's: a class in a file of its own, named on the
    command line (`metrics.NAME._target_=...`). Its keys are the arguments of its constructor.
    """

    metric: Metric
    """How it is called and shown; its name must be NAME."""

    @abstractmethod
    def measure(self, answers: Answers, truth: Answers) -> float:
        """Of all rows of a split, on the CPU."""
