"""The adversary of RAD's game (arXiv:2210.01213) against any rule that buys: it makes the m answers wrong
that hurt most, knowing with which chance each row is drawn, and not which rows are."""

from __future__ import annotations

import numpy as np


def worst_gain(gains: np.ndarray, chances: np.ndarray, wrong: int) -> float:
    """(n,) gains of the rows left, (n,) the share of each in what is drawn, which add up to 1 -> the mean
    gain of a bought row where the `wrong` answers that hurt most are wrong, and gain nothing."""
    each = np.sort(gains * chances)
    return float(each[: max(len(each) - wrong, 0)].sum())


def gain_so_far(gains: np.ndarray, right: np.ndarray) -> float | None:
    """(m,) gains of the bought rows, (m,) bool whether their answers are right -> the mean gain of one; None
    of no row."""
    return float((gains * right).mean()) if len(gains) else None
