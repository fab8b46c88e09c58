"""Buys the answers that the student finds hardest: the smallest difference of its two highest probabilities
(Scheffer et al. 2001).
"""

from __future__ import annotations

from kdx.methods.select import Chosen, Pool, Rule
from kdx.methods.select._rows import buy_lowest, row_margins


class Margin(Rule):
    needs = ("student",)
    buys = True

    def choose(self, pool: Pool, count: int | None, seed: int) -> Chosen:
        rows, last, left = buy_lowest(pool, count, seed, lambda rows: row_margins(pool.student, rows))
        return Chosen(rows, {"remaining": left, "highest_margin": last})
