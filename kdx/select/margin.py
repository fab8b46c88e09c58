"""Buys the answers that the pupil finds hardest: the smallest difference of its two highest probabilities (Scheffer et al. 2001)."""

from __future__ import annotations

import numpy as np

from kdx.select import Chosen, Pool, Rule
from kdx.select._rows import lowest, margin, remaining


class Margin(Rule):
    needs = ("student",)
    buys = True

    def choose(self, pool: Pool, count: int | None, seed: int) -> Chosen:
        rows = remaining(pool, count)
        margins = margin(pool.student, rows)
        picked = lowest(margins, count, np.random.default_rng(seed))
        return Chosen(np.sort(rows[picked]), {"remaining": len(rows), "highest_margin": float(margins[picked[-1]])})
