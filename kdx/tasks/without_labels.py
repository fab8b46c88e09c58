"""How often a teacher is right of rows without labels, estimated from how sure it is of them and of
validation.

Estimates, and no more (docs/transfer.md tells how far off they were). Nothing is decided by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # run reports read the words alone
    from torch import Tensor

MEAN_CONFIDENCE, THRESHOLDED, DIFFERENCE = (
    "mean_confidence",
    "thresholded_confidence",
    "difference_of_confidences",
)
WORDS = {
    MEAN_CONFIDENCE: "mean confidence",
    THRESHOLDED: "average thresholded confidence",
    DIFFERENCE: "difference of confidences",
}
"""What each is called, in the order in which they are said."""
KNOWN_ERROR = "on other data tried before such estimates were 5 to 51 points too high, or 46 too low"
"""What is said of every estimate."""


def mean_confidence(sure: Tensor) -> float:
    """(N,) in [0, 1], the confidence of each row -> the accuracy of a teacher that is as sure as it is right
    (Hendrycks and Gimpel 2017, arXiv 1610.02136)."""
    return float(sure.double().mean())


def thresholded_confidence(sure: Tensor, known: Tensor, right: Tensor) -> float:
    """(N,) confidences of rows without labels, (M,) those of validation, (M,) bool whether it is right there
    -> the share of the N rows that lie at or above the threshold at or above which as many rows of validation
    lie as are right there (Garg et al. 2022, arXiv 2201.04234, equations 1 and 2).
    """
    wrong = int((~right).sum())
    if wrong == len(known):
        return 0.0
    threshold = known.double().sort().values[wrong]
    return float((sure.double() >= threshold).double().mean())


def difference_of_confidences(sure: Tensor, known: Tensor, right: Tensor) -> float:
    """The same arguments -> the accuracy on validation, less by as much as the mean confidence is less, in
    [0, 1] (Guillory et al. 2021, arXiv 2107.03315, with the slope 1)."""
    apart = known.double().mean() - sure.double().mean()
    return float((right.double().mean() - apart).clamp(0, 1))


def estimated_shares(sure: Tensor, known: Tensor | None, right: Tensor | None) -> dict[str, float]:
    """name of an estimate -> it, in [0, 1]; of those that read validation none without it. known, right:
    see `thresholded_confidence`."""
    found = {MEAN_CONFIDENCE: mean_confidence(sure)}
    if known is not None and right is not None and len(known):
        found[THRESHOLDED] = thresholded_confidence(sure, known, right)
        found[DIFFERENCE] = difference_of_confidences(sure, known, right)
    return {name: round(value, 6) for name, value in found.items()}


def estimates_in_words(found: Mapping[str, float]) -> str:
    """ "76% by mean confidence, 71% by ..." """
    return ", ".join(f"{value:.0%} by {WORDS[name]}" for name, value in found.items() if name in WORDS)


def held_against(found: Mapping[str, float], right: Tensor) -> dict[str, Any] | None:
    """(N,) bool, whether the teacher is right of the rows whose truth is known -> {"accuracy", "n", "errors":
    name of an estimate -> by how much it is too high}; None of no row."""
    if not len(right):
        return None
    accuracy = float(right.double().mean())
    errors = {name: round(value - accuracy, 6) for name, value in found.items()}
    return {"accuracy": round(accuracy, 6), "n": len(right), "errors": errors}


def confidences(probs: Tensor) -> Tensor:
    """(N, K) -> (N,)"""
    return probs.max(1).values
