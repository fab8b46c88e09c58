"""What the losses on logits share: settings that move along a line, logits standardised, what becomes of a
teacher's wrong answers where the label is known, and how far each row's answer counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdx.core.checks import choice, flag, number, refuse
from kdx.core.divergence import over_temperature
from kdx.core.fitness import Fitness
from kdx.core.task import Categorical, Task
from kdx.core.types import Answers

_WRONG = ("keep", "drop", "correct")
_ADAPTIVE = ("none", "confidence", "entropy")
_LEAST_VARIANCE = 1e-8
"""Logits closer to each other than this are not blown up to a deviation of 1."""
_NO_WEIGHT = 1e-12
Setting = float | tuple[float, float]
"""A number, or its values at the beginning and the end of the training."""


def checked_setting(
    name: str, value: object, *, low: float, high: float = float("inf"), open_low: bool = False
) -> Setting:
    """A number in [low, high], or two of them, [from, to], for a straight line over the training."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return number(name, value, low=low, high=high, open_low=open_low)
    if len(value) != 2:
        refuse(f"{name} must be a number, or two of them [from, to]; given: {list(value)}")
        value = (1.0, 1.0)
    first, last = (number(name, end, low=low, high=high, open_low=open_low) for end in value)
    return first, last


def value_at(setting: float | Sequence[float], progress: float) -> float:
    """A constant, or the value on the straight line from setting[0] at progress 0 to setting[1] at 1."""
    if isinstance(setting, int | float):
        return setting
    return setting[0] + (setting[1] - setting[0]) * progress


def hottest(setting: Setting) -> float:
    """The largest of all values that a setting takes."""
    return max(setting) if isinstance(setting, tuple) else setting


def standardised(logits: Tensor) -> Tensor:
    """(B, C) logits -> (B, C), each row with mean 0 and deviation 1 over its classes: (z - mean) / std.

    Sun et al. 2024, "Logit Standardization in Knowledge Distillation", arXiv 2403.01427: before the
    temperature, of student and teacher, so that a student need not reach the size of the teacher's logits.
    The deviation divides by C - 1, as the authors' code has it; dividing by C is a temperature that is
    sqrt((C - 1) / C) of this one. Shifting and scaling a row changes nothing. Rows whose variance is below
    1e-8 are divided by 1e-4, so that equal logits have a gradient that is finite; the code adds 1e-7 to the
    deviation.
    """
    logits = over_temperature(logits, 1)
    centred = logits - logits.mean(1, keepdim=True)
    variance = centred.square().sum(1, keepdim=True) / (logits.shape[1] - 1)
    return centred / variance.clamp_min(_LEAST_VARIANCE).sqrt()


def target_classes(y: Tensor, answers: Tensor) -> Tensor:
    """(L,) classes or (L, C) probabilities of the labelled rows, (N, C) the teacher's logits of these and of
    N - L pool rows -> (N,) int64: the label, of mixed labels the likelier one, and where there is none the
    teacher's first choice.
    """
    known = y if y.dim() == 1 else y.argmax(1)
    return torch.cat([known, answers[len(known) :].argmax(1)])


def swapped(answers: Tensor, target: Tensor) -> Tensor:
    """(N, C) logits, (N,) classes -> (N, C): the logits of the first choice and of the target change places.

    The probability shift of Wen, Lai and Qian 2019, "Preparing Lessons", arXiv 1911.07471: the
    answer becomes right and keeps all its numbers. Where the first choice is the target nothing changes.
    """
    first, right = answers.argmax(1, keepdim=True), target[:, None]
    of_first, of_right = answers.gather(1, first), answers.gather(1, right)
    return answers.scatter(1, first, of_right).scatter(1, right, of_first)


def other_logits(logits: Tensor, target: Tensor) -> Tensor:
    """(N, C) logits, (N,) classes -> (N, C - 1), those of all other classes in their order."""
    before = torch.arange(logits.shape[1] - 1, device=logits.device)
    return logits.gather(1, before + (before >= target[:, None]))  # a mask would be waited for on a GPU


def sureness(answers: Tensor, how: str) -> Tensor:
    """(N, C) logits -> (N,) >= 0, whose mean is 1: c / mean of c over the rows, with c the largest
    probability ("confidence") or 1 - H / log C, H the entropy in nats ("entropy"); 1 everywhere ("none").

    "confidence" is the weight CWTM of Furlanello et al. 2018, "Born-Again Neural Networks", arXiv 1805.04770.
    Without gradient. Where the teacher knows nothing of any row all weights are 1.
    """
    if how == "none":
        return answers.new_ones(len(answers))
    log_q = over_temperature(answers.detach(), 1).log_softmax(1)
    if how == "confidence":
        sure = log_q.amax(1).exp()
    else:
        uniform = torch.tensor(float(answers.shape[1])).log().item()
        sure = (1 - torch.special.entr(log_q.exp()).sum(1) / uniform).clamp_min(0)
    mean = sure.mean()
    return torch.where(mean > _NO_WEIGHT, sure / mean.clamp_min(_NO_WEIGHT), torch.ones_like(sure))


@dataclass(frozen=True)
class Guidance:
    """student, teacher: (N, C) logits as a term compares them. target: (N,) int64, see `target_classes`.
    weight: (N,) >= 0, what the term of each row is multiplied by.
    """

    student: Tensor
    teacher: Tensor
    target: Tensor
    weight: Tensor

    def mean(self, losses: Tensor) -> Tensor:
        """(N,) -> (): the weighted losses over all N rows, those of weight 0 among them."""
        return (self.weight * losses).mean()


@dataclass(frozen=True)
class Refinement:
    """What is done to logits before they are compared; errors name its values as the keys of `loss`.

    standardise: see `standardised`. wrong: of labelled rows whose label is not the teacher's first choice,
    "keep" the answer, "drop" it (no term on the row; it still counts among the rows that the sum is divided
    by), or "correct" it (`swapped`); of rows without a label nobody knows, and they are kept. adaptive: the
    weight of each row's answer, see `sureness`, by the answer at temperature 1.
    """

    standardise: bool = False
    wrong: str = "keep"
    adaptive: str = "none"

    @property
    def plain(self) -> bool:
        """Whether logits stay as they are, whatever they are of."""
        return not self.standardise and self.wrong == "keep" and self.adaptive == "none"

    def guidance(self, said: Answers, answers: Answers, y: Answers) -> Guidance:
        """The student's and the teacher's logits, both (N, C), of the labelled rows and then of a pool; the
        labels, (L,) or (L, C)."""
        target = target_classes(y, answers)
        weight = sureness(answers, self.adaptive)
        if self.wrong == "drop":
            weight = weight * (answers.argmax(1) == target)
        if self.wrong == "correct":
            answers = swapped(answers, target)
        if self.standardise:
            said, answers = standardised(said), standardised(answers)
        return Guidance(said, answers, target, weight)


def refinement(task: Task, standardise: bool, wrong: str = "keep", adaptive: str = "none") -> Refinement:
    """The settings, checked. Raises UserError where they are not of the task's answers."""
    found = Refinement(
        flag("loss.standardise", standardise),
        choice("loss.wrong", wrong, _WRONG),
        choice("loss.adaptive", adaptive, _ADAPTIVE),
    )
    for key, default in (("standardise", False), ("wrong", "keep"), ("adaptive", "none")):
        if (value := getattr(found, key)) != default:
            words = "true" if value is True else value
            Fitness(f"loss.{key}={words}", Categorical, "leave it out").check(task)
    if found.standardise and task.width == 2:
        refuse(
            "loss.standardise=true: of two classes standardised logits are 0.71 and -0.71 whatever the "
            "answer is, so that nothing but the first choice is left: leave it out"
        )
    return found
