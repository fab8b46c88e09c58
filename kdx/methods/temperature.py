"""The temperature that makes a teacher's answers say how often it is right, found on rows whose truth is
known (temperature scaling: Guo et al. 2017, arXiv 1706.04599).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kdx.core.answers import Answers
from kdx.core.task import Task
from kdx.core.types import Batch, Teacher

COLDEST, HOTTEST = 0.05, 20.0
"""Between these it is looked for: where every answer is right, colder is always better."""
_GOLDEN = (math.sqrt(5) - 1) / 2
_NARROW = 1e-6


@dataclass(frozen=True)
class Tempered:
    """A teacher whose answers have a temperature."""

    teacher: Teacher
    temperature: float
    task: Task

    def __call__(self, batch: Batch) -> Answers:
        return self.task.tempered(self.teacher(batch), self.temperature)


def mean_loss(task: Task, answers: Answers, truth: Answers, temperature: float) -> float:
    """The mean loss of answers with a temperature, of classification in nats a row."""
    return float(task.loss(task.tempered(answers, temperature), truth).double().mean())


def fit_temperature(task: Task, answers: Answers, truth: Answers) -> float:
    """The temperature with the least mean loss, from 0.05 to 20, to one part in a million: by golden section
    over its logarithm. The loss of logits is convex in 1/temperature, so that there is one valley.
    """
    low, high = math.log(COLDEST), math.log(HOTTEST)

    def loss(place: float) -> float:
        return mean_loss(task, answers, truth, math.exp(place))

    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    of_left, of_right = loss(left), loss(right)
    while high - low > _NARROW:
        if of_left <= of_right:
            high, right, of_right = right, left, of_left
            left = high - _GOLDEN * (high - low)
            of_left = loss(left)
        else:
            low, left, of_left = left, right, of_right
            right = low + _GOLDEN * (high - low)
            of_right = loss(right)
    return math.exp((low + high) / 2)
