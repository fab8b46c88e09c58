"""Buys small margins from many clusters: Cluster-Margin (Citovsky et al., NeurIPS 2021, arXiv:2107.14263)."""

from __future__ import annotations

import numpy as np

from kdx.core.checks import integer, number
from kdx.methods.select import Chosen, Pool, Rule
from kdx.methods.select._rows import (
    MOST_ROWS,
    beforehand,
    comparable,
    finite,
    lowest,
    remaining,
    row_margins,
    sampled,
)


class ClusterMargin(Rule):
    """candidates: at least 1, how many times as many smallest margins are looked at as are bought. clusters:
    of the rows left; None: as many as are bought. sample: rows left to draw at random and choose among, at
    most 50,000; None: all, where they are no more than that.

    Rows are clustered by features (average linkage, Euclidean). From the candidates one row is taken of each
    cluster in turn, clusters with fewest candidates first, at random within a cluster, and round again until
    there are enough. Deviations: clusters are made anew in each round from the student of that round, not
    once; their number is given, not their diameter.
    """

    needs = ("student", "features")
    buys = True

    def __init__(self, *, candidates: float, clusters: int | None, sample: int | None):
        self.candidates = number("select.candidates", candidates, low=1)
        self.clusters = clusters if clusters is None else integer("select.clusters", clusters, low=1)
        self.sample = sample if sample is None else integer("select.sample", sample, low=1, high=MOST_ROWS)

    def foresee(self, rows: int, count: int | None, validation: bool) -> None:
        comparable(rows, count, self.sample)

    def choose(self, pool: Pool, count: int | None, seed: int) -> Chosen:
        rng = np.random.default_rng(seed)
        left = remaining(pool, count)
        rows = sampled(left, count, self.sample, rng)
        n = len(rows)
        # The distance of each pair in float64, and the library's working copy of them.
        warnings = beforehand(
            f"cluster_margin compares {n:,} rows in pairs", 8 * n * n + 8 * n * pool.features.shape[1]
        )
        cluster = _clusters(finite(pool.features[rows]), min(n, self.clusters or count))
        looked = lowest(
            row_margins(pool.student, rows), min(n, max(count, round(self.candidates * count))), rng
        )
        cluster = cluster[looked]
        order = rng.permutation(len(looked))
        order = order[np.argsort(cluster[order], kind="stable")]  # by cluster, random within it
        size = np.bincount(cluster)
        # 0, 1, 2 ... within each cluster
        turn = np.arange(len(order)) - np.repeat(np.cumsum(size) - size, size)
        by_turn = np.lexsort((rng.permutation(len(size))[cluster[order]], size[cluster[order]], turn))
        picked = looked[order[by_turn[:count]]]
        about = {
            "remaining": len(left),
            "sampled": n,
            "candidates": len(looked),
            "clusters": int(np.count_nonzero(size)),
            "clusters_picked": len(np.unique(cluster[order[by_turn[:count]]])),
        }
        return Chosen(np.sort(rows[picked]), about, warnings)


def _clusters(features: np.ndarray, number: int) -> np.ndarray:
    """(n, D) -> the cluster of each row (n,) in 0 ... number - 1"""
    from sklearn.cluster import AgglomerativeClustering

    if len(features) == 1:  # the library asks for two
        return np.zeros(1, dtype=np.int64)
    return AgglomerativeClustering(n_clusters=number, linkage="average").fit_predict(features)
