"""Buys answers where the student wavers, spread over clusters of the pool."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from kdx import checks
from kdx.select import Chosen, Pool, Rule
from kdx.select.common import check_sample, finite_features, left, memory, sampled, smallest, unsureness


class ClusterMargin(Rule):
    """Cluster-Margin (Citovsky et al. 2021, arXiv 2107.14263): clusters the rows by average linkage of their features, takes the
    `candidates` * count smallest margins, and draws from their clusters in turn, the smallest cluster (counted in candidates) first.

    Deviations: the paper clusters once, before the first round, and cuts the tree at a distance; here a round clusters the rows that are left, by the
    features of its own student, and cuts at rows / `cluster_size` clusters, an average size that third-party code names [unconfirmed].
    candidates >= 1: 1.25 to 10 in the paper. cluster_size >= 1. sample: choose among so many rows drawn at random; None: among all, at most 50,000,
    as the distances of all pairs are held.
    """

    needs: ClassVar = ("student", "features")
    buys: ClassVar = True

    def __init__(self, *, candidates: int | float, cluster_size: int | float, sample: int | None):
        self.candidates = checks.number("select.candidates", candidates, low=1)
        self.cluster_size = checks.number("select.cluster_size", cluster_size, low=1)
        self.sample = check_sample(sample)

    def choose(self, pool: Pool, count: int | None, seed: int) -> Chosen:
        from sklearn.cluster import AgglomerativeClustering

        rng = np.random.default_rng(seed)
        rows = sampled(left(pool, count), count, self.sample, rng)
        told = memory(8.0 * len(rows) ** 2, "cluster_margin", f"the distances of {len(rows)} rows from each other")
        points = finite_features(pool, rows)
        clusters = max(1, round(len(rows) / self.cluster_size))
        if len(rows) > 1:
            cluster = AgglomerativeClustering(n_clusters=clusters, linkage="average").fit_predict(points)
        else:
            cluster = np.zeros(1, dtype=np.int64)
        wavering = smallest(1 - unsureness(pool.student, rows), min(len(rows), int(np.ceil(self.candidates * count))), rng)
        chosen = wavering[round_robin(cluster[wavering], count, rng)]
        return Chosen(np.sort(rows[chosen]), {
            "left": int((~pool.taken).sum()), "clustered": len(rows), "clusters": clusters, "candidates": len(wavering),
            "clusters_chosen": len(np.unique(cluster[chosen])),
        }, (told,))  # fmt: skip


def round_robin(cluster: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(m,) cluster of each candidate, m >= count -> positions of `count` of them: one of each cluster in turn, the smallest first, a cluster's
    own members in random order.
    """
    order = rng.permutation(len(cluster))
    order = order[np.argsort(cluster[order], kind="stable")]
    mine = cluster[order]
    turn = np.arange(len(mine)) - np.searchsorted(mine, mine)
    size = np.bincount(cluster)[mine]
    return order[np.lexsort((mine, size, turn))[:count]]
