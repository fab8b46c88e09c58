"""Buys the answers of rows drawn at random: what every other rule has to beat."""

from __future__ import annotations

import numpy as np

from kdx.methods.select import Chosen, Pool, Rule
from kdx.methods.select._rows import remaining


class Uniform(Rule):
    needs = ()
    buys = True

    def choose(self, pool: Pool, count: int | None, seed: int) -> Chosen:
        rows = remaining(pool, count)
        picked = np.random.default_rng(seed).choice(rows, count, replace=False)
        return Chosen(np.sort(picked), {"remaining": len(rows)})
