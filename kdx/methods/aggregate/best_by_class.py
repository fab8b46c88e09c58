"""Each class is answered by the teacher that knows it best."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdx.core.aggregate import Aggregate
from kdx.core.checks import choice

_SHOWN = 10
"""Classes that are named of a teacher."""


class BestByClass(Aggregate):
    """p(c|x) proportional to p_m(c)(c|x), where m(c) is the teacher that is best at class c on validation;
    equally good ones share the column (so a class that no validation row has is answered by the mean). Each
    row is renormalised.

    by: "f1", the harmonic mean of recall and precision; "recall"; "precision". Recall alone is highest of a
    teacher that always names the class, precision alone of one that hardly ever does: F1 is neither. Equal
    teachers: their mean. Cost: one pass of each teacher over validation.
    """

    reads_validation = True

    def __init__(self, *, by: str):
        self.by = choice("aggregate.by", by, ("f1", "recall", "precision"))

    def weights(self, probs: Tensor, truth: Tensor) -> Tensor:
        classes = probs.shape[2]
        said = F.one_hot(probs.argmax(2), classes).double()  # (M, N, K)
        known = F.one_hot(truth, classes).double()
        right, named, there = (said * known).sum(1), said.sum(1), known.sum(0)
        of = {"f1": (named + there) / 2, "recall": there.expand_as(named), "precision": named}[self.by]
        score = right / of.clamp_min(1)  # right is 0 where `of` is below 1
        best = (score == score.max(0).values).double()
        return best / best.sum(0)

    def probs(self, probs: Tensor, weights: Tensor | None) -> Tensor:
        assert weights is not None
        columns = (probs * weights[:, None]).sum(0)
        return columns / columns.sum(1, keepdim=True).clamp_min(torch.finfo(columns.dtype).tiny)

    def in_sentence(self, weights: Tensor, classes: Sequence[str]) -> str:
        best: dict[str, list[str]] = {}
        for name, column in zip(classes, weights.T, strict=True):
            numbers = [str(number) for number, weight in enumerate(column.tolist(), 1) if weight > 0]
            best.setdefault(" and ".join(numbers), []).append(name)
        return "; ".join(
            f"{'members' if ' ' in numbers else 'member'} {numbers} of {', '.join(names[:_SHOWN])}"
            + (" and more" if len(names) > _SHOWN else "")
            for numbers, names in sorted(best.items())
        )
