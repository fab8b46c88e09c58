"""Robust Active Distillation: buys the answers that pay even if the worst m of them are wrong
(arXiv:2210.01213, ICLR 2023).

The paper has no code; the form of the game is unconfirmed, its closed forms are derived, and held against a
linear program in the tests. The student gains g_i = 1 - margin_i from row i, nothing where the teacher's
answer is wrong (`rad`), or -g_i (`rad_loss`). The learner draws a row with probability p_i, the adversary
then makes up to m answers wrong; p maximises what is gained in the worst case.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from kdx.core.checks import choice, refuse, shown
from kdx.core.errors import UserError
from kdx.methods.select import Chosen, Pool, Rule
from kdx.methods.select._rows import lowest, remaining, row_margins

SMALLEST = 1e-6
"""Of a gain: the student may be sure of a row to the last digit, and 1 / gain must stay finite."""


def play(gains: np.ndarray, wrong: int) -> tuple[np.ndarray, float]:
    """gains (n,) positive, in descending order; 0 <= wrong < n -> the best p (n,), zero outside its first k,
    and the value of the game.

    k maximises (k - wrong) / H_k with H_k the sum of 1 / gain over the first k; that maximum is the value,
    p_i = 1 / (g_i H_k). Within its support p is larger where the gain is smaller: all p_i g_i are equal.
    `rad_loss` with m wrong answers is this game with 2 m.
    """
    if not 0 <= wrong < len(gains):
        raise ValueError(f"the adversary has fewer rows than there are: given {wrong} of {len(gains)}")
    sums = np.cumsum(1 / gains)
    scores = (np.arange(1, len(gains) + 1) - wrong) / sums
    k = int(scores.argmax()) + 1
    p = np.zeros(len(gains))
    p[:k] = 1 / (gains[:k] * sums[k - 1])
    return p, float(scores[k - 1])


def inclusion(gains: np.ndarray, count: int) -> np.ndarray:
    """Chances in (0, 1] that sum to `count`: in proportion to 1 / gain, those above 1 cut to 1 and the rest
    scaled up for it.

    gains: (k,) of the support alone, in descending order, with count <= k.
    """
    weights = 1 / gains
    # The last j are cut: the fewest for which the next largest, scaled to what is then left over, is not
    # above 1.
    left = count - np.arange(len(gains))
    cut = int(np.argmax(left * weights[::-1] <= np.cumsum(weights)[::-1]))
    chances = np.ones(len(gains))
    free = weights[: len(gains) - cut]
    chances[: len(free)] = np.minimum(free * ((count - cut) / free.sum()), 1)
    return chances


def dep_round(chances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """DepRound, the paper's algorithm 2: (n,) in [0, 1] with a whole sum -> (n,) bool, each True with its
    chance, sum(chances) of them.

    Deviation: of the two rows of a pair at least one is settled, so many disjoint pairs are settled at a
    time, in log2(n) turns. The last one open is rounded to what the sum leaves for it.
    """
    q = np.array(chances, dtype=np.float64)
    count = round(q.sum())
    if ((q < 0) | (q > 1)).any() or abs(q.sum() - count) > 1e-6 * max(count, 1):
        raise ValueError(f"chances lie in [0, 1] and have a whole sum; theirs is {q.sum()}")
    undecided = np.flatnonzero((q > 0) & (q < 1))
    while len(undecided) > 1:
        pairs = len(undecided) // 2
        i, j = undecided[: 2 * pairs : 2], undecided[1 : 2 * pairs : 2]
        both = q[i] + q[j]
        below = both <= 1  # one of them gets all, the other 0; else one gets 1, the other what is left
        chance = np.where(below, q[i] / both, (1 - q[j]) / (2 - both))
        first = rng.random(pairs) < chance
        more, less = np.where(below, both, 1.0), np.where(below, 0.0, both - 1)
        q[i], q[j] = np.where(first, more, less), np.where(first, less, more)
        undecided = undecided[(q[undecided] > 0) & (q[undecided] < 1)]
    q[undecided] = count - np.count_nonzero(q == 1)
    return q == 1


class RAD(Rule):
    """form: "rad" or "rad_loss", the two games. mislabelled: wrong answers to expect among the rows left, a
    number or a share in (0, 1); None estimates it by the teacher's errors on validation, in each round for
    the rows then left.
    """

    needs = ("student",)
    buys = True

    def __init__(self, *, form: Literal["rad", "rad_loss"], mislabelled: float | None):
        self.form = choice("select.form", form, ("rad", "rad_loss"))
        whole = isinstance(mislabelled, int) and not isinstance(mislabelled, bool) and mislabelled >= 0
        if not (mislabelled is None or whole or (isinstance(mislabelled, float) and 0 < mislabelled < 1)):
            refuse(
                "select.mislabelled must be null, a whole number of rows, or a share in (0, 1); given: "
                f"{shown(mislabelled)}"
            )
        self.mislabelled = mislabelled

    def foresee(self, rows: int, count: int | None, validation: bool) -> None:
        if self.mislabelled is None and not validation:
            raise UserError(self._unknown())

    def choose(self, pool: Pool, count: int | None, seed: int) -> Chosen:
        rng = np.random.default_rng(seed)
        rows = remaining(pool, count)
        n, m = len(rows), self._wrong(pool, len(rows))
        gains = np.maximum(1 - row_margins(pool.student, rows), SMALLEST)
        order = lowest(-gains, n, rng)
        about = {"remaining": n, "m": m}
        power = m if self.form == "rad" else 2 * m
        if power >= n:
            expected = f"{self.form} expects {m} of the {n} rows left to be answered wrongly, "
            expected += (
                "half or more: no choice promises a gain" if self.form == "rad_loss" else "all of them"
            )
            picked = rng.choice(n, count, replace=False)
            return Chosen(
                np.sort(rows[picked]),
                about | {"support": n},
                [f"{expected}. The {count} rows are drawn uniformly"],
                self._over(pool, rows, np.full(n, count / n)),
            )
        p, value = play(gains[order], power)
        k = int(np.count_nonzero(p))
        # of fewer than are to be picked, no distribution without repetition can be made
        support = max(k, count)
        drawn = inclusion(gains[order[:support]], count)
        picked = order[:support][dep_round(drawn, rng)]
        return Chosen(
            np.sort(rows[picked]),
            about | {"k": k, "value": value, "support": support},
            self._remarks(m, k, count, n),
            self._over(pool, rows[order[:support]], drawn),
        )

    def _over(self, pool: Pool, rows: np.ndarray, chances: np.ndarray) -> np.ndarray:
        """Over the whole pool, 0 of all other rows."""
        found = np.zeros(len(pool))
        found[rows] = chances
        return found

    def _remarks(self, m: int, k: int, count: int, n: int) -> list[str]:
        if m == 0:
            return [
                f"{self.form} expects no wrong answer among the {n} rows left: it just takes the {count} "
                "smallest margins, as select=margin does. select.mislabelled=0.1 would guard it"
            ]
        if k < count < n:
            return [
                f"{self.form} would spread its choice over {k} of the {n} rows left, and {count} are to be "
                f"bought: it takes the {count} smallest margins, as select=margin does. Buy fewer in a round"
            ]
        return []

    def _wrong(self, pool: Pool, n: int) -> int:
        if isinstance(self.mislabelled, int):
            return self.mislabelled
        share = pool.wrong if self.mislabelled is None else self.mislabelled
        if share is None:
            raise UserError(self._unknown())
        return round(n * share)

    def _unknown(self) -> str:
        return (
            f"{self.form} needs to know how often the teacher is wrong, and there is no validation split to "
            "tell: set dataset.validation=0.1, or select.mislabelled=0.2 to say it yourself"
        )
