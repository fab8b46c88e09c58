"""Experimental. One action of K in each state: logits (B, K), and of a network that was measured as it acts
the return of the episode that begins there; truth (B, K), the return of who holds to each of the actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from kdx.core.answers import AnswerColumns, Answers, Audited, Evidence, Nothing
from kdx.core.errors import UserError
from kdx.core.math import kl
from kdx.core.readable import numbered_columns
from kdx.core.task import Task
from kdx.core.trees import leaves, rows_of
from kdx.tasks.answer_formats import half
from kdx.tasks.shown import RETURN, SAME_ACTION

_LOGITS, _RETURN = "logits", "return"


class Policy(Task):
    """actions: their names, in the order of their numbers.

    What counts is the return: the mean over the rows of what the rewards of an episode add up to that begins
    in each of them. Answers tell it where a network was measured as it acts (kdx.core.episodes.Acts.acted);
    those that are stored, and those of several networks together, are logits alone, and their return is nan.
    Nothing says which action is right in a state: there are no labels, and their loss is 0, without a
    gradient. What is learned of acting is learned by `kdx.methods.losses.reinforce`.
    """

    width: int
    shown = {metric.name: metric for metric in (RETURN, SAME_ACTION)}
    primary = RETURN.name
    paired = RETURN
    words: ClassVar[str] = "one action of several, known by what it leads to"
    labels = False
    averages = False

    def __init__(self, *, actions: Sequence[str]):
        self.actions, self.width = tuple(actions), len(actions)

    def loss(self, answers: Answers, truth: Answers, weights: Tensor | None = None) -> Tensor:
        return torch.zeros(rows_of(answers), device=_logits(answers).device)

    def match(self, student: Answers, teacher: Answers, temperature: float) -> Tensor:
        return kl(_logits(student), _logits(teacher), temperature)

    def agreement(self, student: Answers, teacher: Answers) -> Tensor:
        return _logits(student).argmax(1) == _logits(teacher).argmax(1)

    def mean(self, several: Sequence[Answers]) -> Answers:
        """Raises UserError: what several lead to together is not measured."""
        raise UserError(
            f"several teachers do not act together here, where an answer is {self.words}: name one"
        )

    def by_row(self, answers: Answers, truth: Answers) -> Tensor:
        if isinstance(answers, Mapping) and _RETURN in answers:
            return leaves(answers)[_RETURN].double()
        return torch.full((rows_of(answers),), torch.nan, dtype=torch.float64)

    def metrics(self, answers: Answers, truth: Answers) -> dict[str, float]:
        return {RETURN.name: self.by_row(answers, truth).mean().item()}

    def knowing_nothing(self, truth: Answers) -> Nothing:
        held = _one(truth)
        best = int(held.double().mean(0).argmax())
        return Nothing(f'always "{self.actions[best]}"', held[:, best])

    def confidence(self, answers: Answers) -> Tensor:
        return _logits(answers).softmax(1).amax(1)

    def displayed(self, answers: Answers) -> list[str]:
        return [self.actions[number] for number in _logits(answers).argmax(1).tolist()]

    def columns(self, answers: Answers, wanted: AnswerColumns) -> dict[str, Any]:
        """label, the likeliest action; confidence, its probability; value:return, where it was measured."""
        super().columns(answers, wanted)  # refuses what has no meaning here
        found = {"label": self.displayed(answers), "confidence": self.confidence(answers).numpy()}
        return found | {"value:return": self.by_row(answers, answers).numpy()}

    def truth_columns(self, truth: Answers) -> dict[str, Any]:
        """truth:ACTION, the return of who holds to it."""
        columns = numbered_columns("truth", truth).values()
        return {f"truth:{name}": column for name, column in zip(self.actions, columns, strict=True)}

    def pack(self, answers: Answers) -> dict[str, Tensor]:
        """Half-precision logits."""
        return {"": half(_logits(answers))}

    def made_up(self, rows: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(rows, self.width, generator=generator)

    def made_up_truth(self, rows: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.randint(1, 50, (rows, self.width), generator=generator).float()

    def audit(self, evidence: Evidence) -> Audited:
        """Of stored answers nothing is known that they led to."""
        return Audited({})

    def audit_teacher(self, answers: Mapping[str, np.ndarray], truth: Answers) -> dict[str, Any]:
        return {"n": rows_of(truth)}


def _one(value: Answers) -> Tensor:
    (found,) = leaves(value).values()
    return found


def _logits(answers: Answers) -> Tensor:
    """(B, K); of the truth, which is shown as answers are, the returns."""
    return leaves(answers)[_LOGITS] if isinstance(answers, Mapping) else answers
