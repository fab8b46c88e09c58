"""Buys the answers where the student's probabilities are most even: the highest entropy (Shannon 1948, as
used by Settles 2009).
"""

from __future__ import annotations

from kdx.methods.select import Chosen, Pool, Rule
from kdx.methods.select._rows import buy_lowest, entropy


class Entropy(Rule):
    needs = ("student",)
    buys = True

    def choose(self, pool: Pool, count: int | None, seed: int) -> Chosen:
        rows, last, left = buy_lowest(pool, count, seed, lambda rows: -entropy(pool.student, rows))
        return Chosen(rows, {"remaining": left, "lowest_entropy": -last})
