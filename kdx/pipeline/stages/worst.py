"""Which rows a network gets most wrong, whatever its task: what people look at first."""

from __future__ import annotations

import torch
from torch import Tensor

from kdx.core.task import Task
from kdx.core.types import Answers


def worst_rows(task: Task, answers: Answers, truth: Answers) -> Tensor:
    """Numbers of rows (W,) int64: those that are wrong, the surest first; where no answer is right or wrong
    all rows, those first that are worst by `Task.by_row`, none where it is nan throughout. Of equal ones the
    first rows come first.
    """
    right = task.right(answers, truth)
    if right is None:
        each = task.by_row(answers, truth).double()
        if each.isnan().all():
            return torch.empty(0, dtype=torch.int64)
        return each.argsort(descending=not task.paired.more, stable=True)
    wrong = (~right.bool()).nonzero().flatten()
    sure = task.confidence(answers)
    return wrong if sure is None else wrong[surest_first(sure[wrong])]


def surest_first(confidence: Tensor) -> Tensor:
    """(N,) -> the order; what is no number comes last."""
    return torch.nan_to_num(confidence, nan=-1.0).argsort(descending=True, stable=True)
