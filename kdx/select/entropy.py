"""Buys the answers where the pupil's probabilities are most even: the highest entropy (Shannon 1948, as used by Settles 2009)."""

from __future__ import annotations

import numpy as np

from kdx.select import Chosen, Pool, Rule
from kdx.select._rows import entropy, lowest, remaining


class Entropy(Rule):
    needs = ("student",)
    buys = True

    def choose(self, pool: Pool, count: int | None, seed: int) -> Chosen:
        rows = remaining(pool, count)
        entropies = entropy(pool.student, rows)
        picked = lowest(-entropies, count, np.random.default_rng(seed))
        return Chosen(np.sort(rows[picked]), {"remaining": len(rows), "lowest_entropy": float(entropies[picked[-1]])})
