"""Buys answers that cover the pool: no row is far from one that was bought."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from kdx.select import Chosen, Pool, Rule
from kdx.select.common import check_sample, finite_features, left, memory, sampled


class KCenter(Rule):
    """k-center greedy on the student's last hidden layer (Sener and Savarese 2018, arXiv 1708.00489, algorithm 1): the row farthest from all that
    were chosen, one after another; its largest distance is at most twice the best possible. The first is drawn at random where none was chosen.

    The paper's centres begin with the labelled examples; here with the rows bought before, as a rule sees the pool alone.
    sample: choose among so many rows drawn at random; None: among all, at most 50,000. O(rows * count * width).
    """

    needs: ClassVar = ("features",)
    buys: ClassVar = True

    def __init__(self, *, sample: int | None):
        self.sample = check_sample(sample)

    def choose(self, pool: Pool, count: int | None, seed: int) -> Chosen:
        from sklearn import config_context
        from sklearn.metrics import pairwise_distances_argmin_min
        from sklearn.metrics.pairwise import euclidean_distances

        rng = np.random.default_rng(seed)
        rows = sampled(left(pool, count), count, self.sample, rng)
        width = pool.features.shape[1]
        told = memory(8 * width * (len(rows) + pool.taken.sum()), "k_center", f"{len(rows)} rows of {width} features")
        points = finite_features(pool, rows)
        squares = np.einsum("ij,ij->i", points, points)[:, None]
        if pool.taken.any():
            centres = finite_features(pool, np.flatnonzero(pool.taken))
            nearest = pairwise_distances_argmin_min(points, centres)[1] ** 2
            following = int(nearest.argmax())
        else:
            nearest = np.full(len(rows), np.inf)
            following = int(rng.integers(len(rows)))
        chosen = np.empty(count, dtype=np.int64)
        with config_context(assume_finite=True):  # checked once above, not at each of `count` calls
            for number in range(count):
                chosen[number] = following
                away = euclidean_distances(points, points[following : following + 1], X_norm_squared=squares, squared=True)
                np.minimum(nearest, away[:, 0], out=nearest)
                nearest[chosen[: number + 1]] = -1  # rounding must not let a row be chosen twice
                following = int(nearest.argmax())
        radius = float(np.sqrt(max(nearest.max(), 0.0)))
        return Chosen(np.sort(rows[chosen]), {"left": int((~pool.taken).sum()), "candidates": len(rows), "radius": radius}, (told,))
