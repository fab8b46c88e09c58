"""Buys rows that leave none far from a bought one: k-center greedy on features (Sener and Savarese, ICLR
2018, arXiv:1708.00489).
"""

from __future__ import annotations

import numpy as np

from kdx.core.checks import integer
from kdx.methods.select import Chosen, Pool, Rule
from kdx.methods.select._rows import MOST_ROWS, beforehand, comparable, finite, remaining, sampled


class KCenter(Rule):
    """sample: rows left to draw at random and choose among, at most 50,000; None: all, where they are no more
    than that.

    Each pick is the row farthest from the labelled examples and all picked before, in this round or an
    earlier one (Euclidean distance of the student's features). Deviation: the greedy solution alone, without
    the paper's mixed integer program that leaves out outliers.
    """

    needs = ("features", "labelled_features")
    buys = True

    def __init__(self, *, sample: int | None):
        self.sample = sample if sample is None else integer("select.sample", sample, low=1, high=MOST_ROWS)

    def foresee(self, rows: int, count: int | None, validation: bool) -> None:
        comparable(rows, count, self.sample)

    def choose(self, pool: Pool, count: int | None, seed: int) -> Chosen:
        from sklearn import config_context
        from sklearn.metrics import pairwise_distances_argmin_min
        from sklearn.metrics.pairwise import euclidean_distances

        rng = np.random.default_rng(seed)
        left = remaining(pool, count)
        rows = sampled(left, count, self.sample, rng)
        centres = np.concatenate([pool.labelled_features, pool.features[pool.taken]])
        warnings = beforehand(
            f"k_center compares {len(rows):,} rows with each centre",
            8 * pool.features.shape[1] * (len(rows) + len(centres)),
        )
        features = finite(pool.features[rows])
        squares = np.einsum("nd,nd->n", features, features)[:, None]
        away = pairwise_distances_argmin_min(features, finite(centres))[1] ** 2
        picked = np.empty(count, dtype=np.int64)
        # looked at once, above: each of `count` looks costs as much as the distances
        with config_context(assume_finite=True):
            for i in range(count):
                picked[i] = at = int(away.argmax())
                new = euclidean_distances(
                    features, features[at : at + 1], X_norm_squared=squares, squared=True
                )[:, 0]
                np.minimum(away, new, out=away)
                away[at] = -1  # never again, though another row may equal it
        radius = float(np.sqrt(max(away.max(), 0)))
        return Chosen(
            np.sort(rows[picked]), {"remaining": len(left), "sampled": len(rows), "radius": radius}, warnings
        )
