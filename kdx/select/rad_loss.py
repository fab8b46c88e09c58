"""Buys answers that teach much even if the worst of them are wrong and harm."""

from __future__ import annotations

from typing import ClassVar

from kdx.select import Chosen, Pool, Rule
from kdx.select.game import check_mislabelled, play


class RADLoss(Rule):
    """Robust Active Distillation (Baykal et al. 2023, arXiv 2210.01213), a wrong answer costing what a right one teaches; see kdx/select/game.py.

    It spreads over more rows than RAD: as RAD with twice as many wrong answers. mislabelled: as RAD's.
    """

    needs: ClassVar = ("student",)
    buys: ClassVar = True

    def __init__(self, *, mislabelled: int | float | None):
        self.mislabelled = check_mislabelled(mislabelled)

    def choose(self, pool: Pool, count: int | None, seed: int) -> Chosen:
        return play(pool, count, seed, mislabelled=self.mislabelled, cost=2, name="RAD-loss")
