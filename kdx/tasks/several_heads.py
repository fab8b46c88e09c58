"""One class of K for each row, where the task of a row is known: a softmax for the classes of each task, in
one layer of logits (B, K)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from kdx.core.errors import UserError
from kdx.core.math import NARROWED
from kdx.core.task import Answers, Nothing
from kdx.tasks.classification import Classification


class SeveralHeads(Classification):
    """Wherever the truth of a row is known, its answer is one of the classes of its task: the logits of the
    others are ruled out before anything is measured (`condense`). Where it is not known, somebody must say of
    which task a row is (`narrow`).

    groups: the classes of each task, by number; a row whose class is in none is answered among all.
    """

    words: ClassVar = "one class of those of its task"

    def __init__(self, *, classes: Sequence[str], groups: Sequence[Sequence[int]]):
        super().__init__(classes=classes)
        self.groups = _checked(groups, len(self.classes))
        self._among = torch.ones(len(self.classes), len(self.classes), dtype=torch.bool)
        for group in self.groups:
            self._among[group] = False
            self._among[torch.tensor(group)[:, None], torch.tensor(group)] = True

    def condense(self, answers: Answers, truth: Answers, teacher: Answers | None = None) -> Tensor:
        logits, known = self._logits(answers), torch.as_tensor(truth)
        among = self._among.to(logits.device)[known.clamp(min=0)] | (known < 0)[:, None]
        return logits.masked_fill(~among, NARROWED)

    def knowing_nothing(self, truth: Answers) -> Nothing:
        known = torch.as_tensor(truth)
        counts = known.bincount(minlength=len(self.classes))
        largest = [group[int(counts[group].argmax())] for group in self.groups]
        return Nothing("always the largest class of each task", torch.isin(known, torch.tensor(largest)))

    def summary(self, truth: Mapping[str, Answers]) -> dict[str, Any]:
        nothing = {name: self.knowing_nothing(known) for name, known in truth.items()}
        floor = {
            name: {"value": found.by_row.double().mean().item(), "words": found.words}
            for name, found in nothing.items()
        }
        return {**super().summary(truth), "floor": floor}

    def head(self, number: int) -> list[int]:
        """The classes of a task. number: from 1. Raises UserError where there is none."""
        if 1 <= number <= len(self.groups):
            return self.groups[number - 1]
        raise UserError(f"task={number}: there are {len(self.groups)} tasks: {self.in_words()}")

    def in_words(self) -> str:
        """ "1 (cat, dog); 2 (car, ship)" """
        named = [[self.classes[one] for one in group] for group in self.groups]
        short = [f"{one[0]} to {one[-1]}" if len(one) > 3 else ", ".join(one) for one in named]
        text = "; ".join(f"{number} ({names})" for number, names in enumerate(short[:10], 1))
        return text + (f" and {len(short) - 10} more" if len(short) > 10 else "")


ONE_OF_ALL = f"{Classification.__module__}.{Classification.__name__}"


def with_heads(task: Mapping[str, Any], groups: Sequence[Sequence[int]]) -> dict[str, Any]:
    """The description of a task, its classes in groups; as it is, where it is no classification of kdx."""
    if task["_target_"] != ONE_OF_ALL:
        return dict(task)
    target = f"{SeveralHeads.__module__}.{SeveralHeads.__name__}"
    return {"_target_": target, "classes": task["classes"], "groups": [list(group) for group in groups]}


def without_heads(task: Mapping[str, Any]) -> dict[str, Any]:
    """That of a data set that a network of this task was made for."""
    if task["_target_"] != f"{SeveralHeads.__module__}.{SeveralHeads.__name__}":
        return dict(task)
    return {"_target_": ONE_OF_ALL, "classes": task["classes"]}


def _checked(groups: Any, classes: int) -> list[list[int]]:
    """They may come out of a file of somebody else."""
    flat = [one for group in groups for one in group] if _are_lists(groups) else [None]
    if not all(type(one) is int and 0 <= one < classes for one in flat) or len(set(flat)) < len(flat):
        raise UserError("the groups of a head a task are lists of numbers of classes, each in one at most")
    return [list(group) for group in groups]


def _are_lists(groups: Any) -> bool:
    return (
        isinstance(groups, list | tuple)
        and bool(groups)
        and all(isinstance(group, list | tuple) and group for group in groups)
    )
