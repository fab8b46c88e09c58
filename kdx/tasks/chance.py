"""What is no better than guessing, and whether one of two is better on the same rows. Standard library only.

Guessing is to name the largest class each time, so chance is the share of that class, on the rows that the
accuracy is measured on.
"""

from __future__ import annotations

from collections.abc import Sequence

ERRORS = 2
"""Standard errors that a difference must exceed."""
_LEAST = 0.05
"""How far above chance an accuracy must lie at least, on however many rows."""


def chance_level(share: float, rows: int) -> float:
    """The accuracy on `rows` examples below which it is no better than `share`, that of the largest class:
    two standard errors more, or 5 points, whichever is more. Though never more than half the way to 1: with a
    few rows only, a good accuracy is not taken for guessing.
    """
    return share + _margin(share, (share * (1 - share) / rows) ** 0.5)


def balanced_line(counts: Sequence[int]) -> float:
    """The same of balanced accuracy, the mean recall of the classes. counts: rows of each class; a class
    without any does not count.

    Guessing has 1/K, with the variance of K recalls that are independent. Where all counts are equal this is
    `line(1/K, rows)`.
    """
    there = [count for count in counts if count]
    p = 1 / len(there)
    return p + _margin(p, sum(p * (1 - p) / count for count in there) ** 0.5 / len(there))


def _margin(share: float, error: float) -> float:
    return min(max(ERRORS * error, _LEAST), (1 - share) / 2)


def largest(counts: Sequence[int]) -> tuple[int, float]:
    """(the class with most rows, the first of several, and its share)"""
    which = max(range(len(counts)), key=lambda c: counts[c])
    return which, counts[which] / sum(counts)


def guesses(accuracy: float, balanced: float, counts: Sequence[int]) -> bool:
    """Whether a network is no better than guessing: both its accuracy and its balanced accuracy lie below
    their lines.

    Either alone would blame good networks: one that finds half of a rare class hardly moves the accuracy, and
    one that is taught to favour rare classes may have fewer rows right than the largest class has. counts:
    rows of each class.
    """
    return accuracy < chance_level(largest(counts)[1], sum(counts)) and balanced < balanced_line(counts)


def mean_and_error(differences: Sequence[float]) -> tuple[float, float]:
    """(N,) what the first has more than the second, row by row -> (their mean, its standard error, unbiased).
    N >= 2.

    Of 1 where only the first has a row right, -1 where only the second, else 0, that is the difference of
    their accuracies. Each times the row's weight n / (K n_c), n_c of the n rows being of its class, of K
    classes, that of their balanced accuracies; its error then counts what classes differ by as well, and so
    is rather too large than too small, also where a class has one row only.
    """
    n = len(differences)
    mean = sum(differences) / n
    return mean, (max(sum(d * d for d in differences) - n * mean**2, 0) / (n - 1) / n) ** 0.5


def better(difference: float, error: float) -> bool:
    """Whether a difference is above zero by two of its standard errors."""
    return difference > 0 and difference >= ERRORS * error
