"""How far a number that was measured on few rows can be off."""

from __future__ import annotations

import math


def standard_error(accuracy: float, n: int) -> float:
    """Binomial standard error of an accuracy measured on n rows; 0 where all or none of them are right, which
    is no error of 0: see `unseen_share`.
    """
    return math.sqrt(max(accuracy * (1 - accuracy), 0.0) / n)


def unseen_share(n: int) -> float:
    """The largest share, at 95%, of what none of n rows shows: 3 / n, the rule of three (Hanley and
    Lippman-Hand 1983).
    """
    return min(1.0, 3 / n)
