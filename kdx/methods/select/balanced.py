"""As many pseudo-labels of each class: Noisy Student's filter and balance (arXiv:1911.04252), by the rule of
its released code.
"""

from __future__ import annotations

import numpy as np

from kdx.core.checks import integer, number
from kdx.core.errors import UserError
from kdx.methods.select import Chosen, Pool, Rule
from kdx.methods.select._rows import confidence, missing, sure

EDGES = np.arange(101) / 100
"""Lower ends of the released code's bins of confidence."""
_MANY = 10
"""Copies of one row that are worth a warning."""


class Balanced(Rule):
    """threshold: least probability of the predicted class, in [0, 1] (0.3 in the released scripts).
    per_class: K, the rows wanted of each class; None: the pool's rows over the classes, as the released
    script for SVHN has it.

    In each predicted class bins of confidence, 0.01 wide, are taken whole from the top until they hold K rows
    or the threshold is reached. Each row of them then stands in the result K / (rows taken) times, rounded up
    or down at random so that this is the mean: large classes are thinned, small ones repeated. So K rows a
    class is what is expected, not what is exact.
    """

    needs = ("teacher",)

    def __init__(self, *, threshold: float, per_class: int | None):
        self.threshold = number("select.threshold", threshold, low=0, high=1)
        self.per_class = per_class if per_class is None else integer("select.per_class", per_class, low=1)

    def choose(self, pool: Pool, count: int | None, seed: int) -> Chosen:
        rng = np.random.default_rng(seed)
        highest, label = confidence(pool.teacher)
        rows = sure(highest, self.threshold)
        wanted = self.per_class or max(1, len(pool) // pool.classes)
        copies, most = np.zeros(len(pool), dtype=np.int64), {}
        for c in np.unique(label[rows]):
            mine = rows[label[rows] == c]
            bins = np.searchsorted(EDGES, highest[mine], side="right")
            # rows in this bin or above it
            from_top = np.cumsum(np.bincount(bins, minlength=len(EDGES) + 1)[::-1])[::-1]
            enough = np.flatnonzero(from_top >= wanted)
            mine = mine[bins >= (enough[-1] if len(enough) else 0)]
            each = wanted / len(mine)
            copies[mine] = int(each) + (rng.random(len(mine)) < each - int(each))
            if each > _MANY:
                most[int(c)] = each
        chosen = np.repeat(np.arange(len(pool)), copies)
        if not len(chosen):
            raise UserError(
                f"select.per_class={wanted} is so few that the random rounding left no "
                "row at all: set it higher"
            )
        kept = np.bincount(label[chosen], minlength=pool.classes)
        warnings = missing(kept)
        if most:
            c = max(most, key=most.get)
            warnings.append(
                f"{len(most)} classes are repeated more than {_MANY} times to be balanced, class {c} "
                f"{most[c]:.0f} times; set select.per_class lower, or select=threshold"
            )
        about = {
            "kept": len(chosen),
            "distinct": int(np.count_nonzero(copies)),
            "share": float(np.count_nonzero(copies) / len(pool)),
            "highest_confidence": float(highest.max()),
            "per_class": kept.tolist(),
            "wanted": wanted,
        }
        return Chosen(chosen, about, warnings)
