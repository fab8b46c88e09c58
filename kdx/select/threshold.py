"""Keeps the pseudo-labels that the teacher is sure of."""

from __future__ import annotations

import math

import numpy as np

from kdx.checks import integer, number
from kdx.faults import Fault
from kdx.select import Chosen, Pool, Rule
from kdx.select._rows import confidence


class Threshold(Rule):
    """threshold: least probability of the predicted class, in [0, 1]. per_class: of those, at most this many of each predicted class, the
    surest ones first (equal ones by row); None keeps all. Rows taken in earlier rounds are judged anew.
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
            rows = np.sort(np.concatenate([order[label[order] == c][: self.per_class] for c in range(pool.classes)]))
        kept = np.bincount(label[rows], minlength=pool.classes)
        about = {"kept": len(rows), "share": len(rows) / len(pool), "highest_confidence": float(highest.max()), "per_class": kept.tolist()}
        return Chosen(rows, about, missing(kept))


def sure(highest: np.ndarray, threshold: float) -> np.ndarray:
    """Rows with at least this confidence, ascending; Fault where there are none."""
    rows = np.flatnonzero(highest >= threshold)
    if not len(rows):
        most = float(highest.max())
        raise Fault(f"no pseudo-label reaches select.threshold={threshold:g}: the highest confidence of {len(highest)} is {most:.4g}."
                    f" Set select.threshold={math.floor(100 * most) / 100:g} or lower, or train the teacher longer")  # fmt: skip
    return rows


def missing(per_class: np.ndarray) -> list[str]:
    """A warning where classes are left without a row."""
    none = np.flatnonzero(per_class == 0)
    if not len(none):
        return []
    first = ", ".join(map(str, none[:10])) + (" and more" if len(none) > 10 else "")
    return [f"{len(none)} of {len(per_class)} classes have no pseudo-label ({first}): the pool teaches the student nothing of them"]
