"""Metrics of a network on a split: pure functions of logits and truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_BINS = 15


def reliability(probs: Tensor, y: Tensor, bins: int = _BINS) -> dict[str, list[Any]]:
    """(N, C), (N,) -> what a network's confidence was worth, by equal-width bins (a, b] of it: {"edges": bins
    + 1 numbers from 0 to 1, "counts": rows in each bin, "confidence": their mean confidence, None in an empty
    bin, "right": how many of them are right}.
    """
    confidence, guess = probs.double().max(dim=1)
    return reliability_of(confidence, guess == y, bins)


def reliability_of(confidence: Tensor, is_right: Tensor, bins: int = _BINS) -> dict[str, list[Any]]:
    """(N,) float64 in [0, 1], (N,) bool -> as `reliability`."""
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    which = torch.bucketize(confidence, edges[1:-1])
    counts = torch.bincount(which, minlength=bins).tolist()
    right = torch.bincount(which[is_right], minlength=bins).tolist()
    sums = torch.zeros(bins, dtype=torch.float64).index_add_(0, which, confidence).tolist()
    means = [total / count if count else None for total, count in zip(sums, counts, strict=True)]
    return {"edges": edges.tolist(), "counts": counts, "confidence": means, "right": right}


def calibration_error(found: Mapping[str, Sequence[Any]]) -> float:
    """What `reliability` found -> expected calibration error in [0, 1]: mean over the bins of |accuracy -
    confidence|, by size.

    Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599, equation 3, with M = 15 bins.
    """
    bins = zip(found["counts"], found["confidence"], found["right"], strict=True)
    return sum(abs(right - count * confidence) for count, confidence, right in bins if count) / sum(
        found["counts"]
    )


def confusion(guess: Tensor, y: Tensor, classes: int) -> Tensor:
    """(N,), (N,) -> (C, C) counts: rows truth, columns predicted"""
    return torch.bincount(y * classes + guess, minlength=classes**2).reshape(classes, classes)


def most_confused(table: Tensor, most: int) -> list[dict[str, int]]:
    """(C, C) counts as of `confusion` -> the `most` pairs of two classes with most rows, those with most
    first, of as many rows in the order of their numbers; pairs without rows are left out.
    """
    wrong = table.clone().fill_diagonal_(0).flatten()
    rows = wrong.sort(descending=True, stable=True)
    found = [(int(at), int(n)) for at, n in zip(rows.indices[:most], rows.values[:most], strict=True) if n]
    classes = len(table)
    return [{"truth": at // classes, "predicted": at % classes, "rows": n} for at, n in found]


def mistaken(table: Tensor) -> dict[str, list[int | None]]:
    """(C, C) counts as of `confusion` -> {"mistaken_for": of each class the one that most of its wrong rows
    are taken for, the first of several, None where no row is wrong, "mistaken": how many rows these are}.
    """
    wrong = table.clone().fill_diagonal_(0)
    rows, most = wrong.max(1).values.tolist(), wrong.argmax(1).tolist()
    return {
        "mistaken_for": [at if count else None for at, count in zip(most, rows, strict=True)],
        "mistaken": rows,
    }


def recalls(guess: Tensor, y: Tensor, classes: int) -> list[float | None]:
    """(N,), (N,) -> of each class the share of its rows that are right, None where it has no row"""
    rows, right = (
        torch.bincount(y, minlength=classes).tolist(),
        torch.bincount(y[guess == y], minlength=classes).tolist(),
    )
    return [hits / count if count else None for hits, count in zip(right, rows, strict=True)]


def _balanced(recall: Sequence[float | None]) -> float:
    """Balanced accuracy: the mean recall of the classes that have rows. Naming one class always has 1 / those
    classes.
    """
    there = [share for share in recall if share is not None]
    return sum(there) / len(there)


def metrics(logits: Tensor, y: Tensor, teacher: Tensor | None = None) -> dict[str, float]:
    """(N, C) logits, (N,) truth, (N, C) teacher's logits -> accuracy, balanced_accuracy, ece, nll (nats), n,
    and agreement: share with the teacher's argmax"""
    found = {
        "accuracy": (logits.argmax(1) == y).double().mean().item(),
        "balanced_accuracy": _balanced(recalls(logits.argmax(1), y, logits.shape[1])),
        "ece": calibration_error(reliability(logits.double().softmax(1), y)),
        "nll": F.cross_entropy(logits.double(), y).item(),
        "n": len(y),
    }
    if teacher is not None:
        found["agreement"] = (logits.argmax(1) == teacher.argmax(1)).double().mean().item()
    return found
