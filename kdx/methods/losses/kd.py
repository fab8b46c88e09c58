"""Knowledge distillation (Hinton, Vinyals and Dean 2015, arXiv 1503.02531), on labels and pool together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from kdx.core.checks import number
from kdx.core.errors import Caution, UserError
from kdx.core.task import Numeric
from kdx.core.trees import joined
from kdx.core.types import Objective, Outcome, Parts, Streams
from kdx.methods.forward import one_pass


def alpha_at(alpha: float | Sequence[float], progress: float) -> float:
    """A constant, or the value on the straight line from alpha[0] at progress 0 to alpha[1] at progress 1."""
    if isinstance(alpha, int | float):
        return alpha
    return alpha[0] + (alpha[1] - alpha[0]) * progress


class KD(Objective):
    """loss = alpha * mean over all rows of match(student, teacher, T) + (1 - alpha) * mean over labelled
    rows of the task's own loss.

    Of classification match is T^2 KL(teacher^T || student^T) and the loss cross-entropy; of other tasks see
    their `Task.match` and `Task.loss`. temperature > 0. alpha in [0, 1], or [from, to] for a straight line
    over the training. Where a pool exists
    its rows join the first term; labelled and pool rows share one forward pass, so batch normalisation sees
    both. With alpha = 0 and no pool this is `supervised`.
    """

    uses = ("labelled",)
    may_use = ("unlabelled",)
    reads_kept = True

    def __init__(self, parts: Parts, *, temperature: float, alpha: float | Sequence[float]):
        super().__init__(parts)
        self.teacher = parts.teacher
        self.temperature = number("loss.temperature", temperature, low=0, open_low=True)
        if alpha != 0 and (words := self.task.too_soft(self.temperature)):
            warnings.warn(words, Caution, stacklevel=2)
        if isinstance(alpha, Sequence) and not isinstance(alpha, str):
            if len(alpha) != 2:
                raise UserError(
                    f"loss.alpha must be a number, or two of them [from, to]; given: {list(alpha)}"
                )
            self.alpha = tuple(number("loss.alpha", a, low=0, high=1) for a in alpha)
        else:
            self.alpha = number("loss.alpha", alpha, low=0, high=1)

    def idle(self) -> Mapping[str, str]:
        if isinstance(self.task, Numeric):
            return {
                "temperature": f"it softens probabilities, and an answer here is {self.task.words}: leave it "
                "out"
            }
        if self.alpha in (0, (0, 0)):
            return {
                "temperature": "loss.alpha=0 gives the teacher's answers no weight: leave one of them out"
            }
        return {}

    def forward(self, streams: Streams, progress: float) -> Outcome:
        made = one_pass(streams, self.student, self.may_use)
        answers = joined([self.teacher(batch) for batch in made.batches])
        alpha, y = alpha_at(self.alpha, progress), streams["labelled"].y
        if len(made.batches) == 1:
            apart, known = self.task.match_and_loss(
                made.said, answers, y, self.temperature, self.class_weights
            )
        else:
            apart = self.task.match(made.said, answers, self.temperature)
            known = self.task.loss(made.known, y, self.class_weights)
        return Outcome(
            terms={
                "distillation": alpha * apart.mean(),
                "labels": (1 - alpha) * known.mean(),
            },
            monitors={"agreement": lambda: self.task.agreement(made.said, answers).float().mean()},
        )
