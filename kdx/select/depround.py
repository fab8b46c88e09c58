"""Dependent rounding: a draw without replacement with given chances of inclusion."""

from __future__ import annotations

import numpy as np


def depround(chances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n,) in [0, 1] with a whole sum b -> (n,) bool, exactly b of them true, each with its chance. O(n).

    DepRound (Gandhi et al., J. ACM 2006; Algorithm 2 of arXiv 2210.01213). It takes two fractional entries, moves as much from one to the
    other as makes one of them 0 or 1, up or down with the chances that keep both means, and goes on while there are two. In which order pairs
    are taken is free: here all neighbours at once, then those that are left over, in log2(n) rounds of whole-array steps.
    What the last fractional entry is off 0 or 1 is the rounding error of the sum; it is rounded, so that the number is exact.
    """
    total = chances.sum()
    if not (len(chances) and chances.min() >= 0 and chances.max() <= 1 and abs(total - round(total)) < 1e-6 * max(1.0, total)):
        raise ValueError(f"chances must be in [0, 1] with a whole sum; given: a sum of {total}")
    q = chances.astype(np.float64)
    open_ = np.flatnonzero((q > 0) & (q < 1))
    while len(open_) > 1:
        last = open_[len(open_) // 2 * 2 :]  # the odd one out waits
        i, j = open_[: len(open_) - len(last)].reshape(-1, 2).T
        both = q[i] + q[j]
        # A sum up to 1 goes to one of the two whole, the other gets 0; of a larger one gets 1 and the other the rest.
        low = both <= 1
        to_i = rng.random(len(i)) * np.where(low, both, 2 - both) < np.where(low, q[i], 1 - q[j])
        more, less = np.where(low, both, 1.0), np.where(low, 0.0, both - 1)
        q[i], q[j] = np.where(to_i, more, less), np.where(to_i, less, more)
        pairs = np.concatenate([i, j])
        open_ = np.concatenate([pairs[(q[pairs] > 0) & (q[pairs] < 1)], last])
    chosen = q > 0.5
    if chosen.sum() != round(total):
        raise ArithmeticError(f"{chosen.sum()} were drawn of {total}")
    return chosen
