"""Keeps the pseudo-labels that the teacher is sure of."""

from __future__ import annotations

import numpy as np

from kdx.core.checks import integer, number
from kdx.methods.select import Chosen, Pool, Rule
from kdx.methods.select._rows import confidence, missing, sure


class Threshold(Rule):
    """threshold: least probability of the predicted class, in [0, 1]. per_class: of those, at most this many
    of each predicted class, the surest ones first (equal ones by row); None keeps all. Rows taken in earlier
    rounds are looked at anew.
    """

    needs = ("teacher",)

    def __init__(self, *, threshold: float, per_class: int | None):
        self.threshold = number("select.threshold", threshold, low=0, high=1)
        self.per_class = per_class if per_class is None else integer("select.per_class", per_class, low=1)

    def choose(self, pool: Pool, count: int | None, seed: int) -> Chosen:
        highest, label = confidence(pool.teacher)
        rows = sure(highest, self.threshold)
        if self.per_class is not None:
            order = rows[np.argsort(-highest[rows], kind="stable")]
            rows = np.sort(
                np.concatenate([order[label[order] == c][: self.per_class] for c in range(pool.classes)])
            )
        kept = np.bincount(label[rows], minlength=pool.classes)
        about = {
            "kept": len(rows),
            "share": len(rows) / len(pool),
            "highest_confidence": float(highest.max()),
            "per_class": kept.tolist(),
        }
        return Chosen(rows, about, missing(kept))
