"""The game of Robust Active Distillation: which rows to ask about when an adversary picks the ones that the teacher gets wrong.

Baykal et al. 2023, arXiv 2210.01213. A row whose answer is right teaches its gain g > 0; the learner chooses a distribution p over rows, then the
adversary chooses m rows whose answers are wrong. The exact form of the game could not be checked against the paper; the closed form is derived
here from the two statements below, and agrees with linear programs (tests/test_select.py).
    RAD:      a wrong answer teaches nothing:     max_p min_{|M| <= m}  sum_{i not in M} p_i g_i
    RAD-loss: a wrong answer costs its gain:      max_p min_{|M| <= m}  sum_{i not in M} p_i g_i - sum_{i in M} p_i g_i
"""

from __future__ import annotations

import numpy as np

from kdx import checks
from kdx.faults import Fault
from kdx.select import Chosen, Pool
from kdx.select.common import left, unsureness
from kdx.select.depround import depround

LEAST_GAIN = 1e-6
"""Of a row that the student is sure of: its chance, inverse to the gain, must stay finite."""


def closed_form(gains: np.ndarray, mislabelled: int) -> tuple[np.ndarray, int, float]:
    """(n,) gains > 0, descending; 0 <= mislabelled < n -> (p (n,), k, value of the game).

    With H_k = 1/g_1 + ... + 1/g_k the best k maximises (k - m) / H_k, and p_i = 1 / (g_i H_k) for the k largest gains, 0 for the others: all rows
    in the support stand to lose the same. RAD-loss with m wrong rows is RAD with 2m, as a wrong row then costs twice. O(n).
    """
    sums = np.cumsum(1 / gains)
    worth = (np.arange(1, len(gains) + 1) - mislabelled) / sums
    best = int(worth.argmax())
    p = np.where(np.arange(len(gains)) <= best, 1 / (gains * sums[best]), 0.0)
    return p, best + 1, float(worth[best])


def inclusion(weights: np.ndarray, count: int) -> np.ndarray:
    """(n,) weights > 0, n >= count -> (n,) chances in [0, 1] that sum to `count`, in proportion to the weights; where that is above 1 it is 1, and
    the others share the rest, until none is above.
    """
    if count == len(weights):
        return np.ones(len(weights))
    chances = np.zeros(len(weights))
    free = np.arange(len(weights))
    while count > 0:
        share = weights[free] * (count / weights[free].sum())
        over = share >= 1
        if not over.any():
            chances[free] = share
            break
        chances[free[over]] = 1
        count -= int(over.sum())
        free = free[~over]
    return chances


def check_mislabelled(value: int | float | None) -> int | float | None:
    """A whole number is a count, a number in (0, 1) a share of the rows that are left, None: estimated."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return None if value is None else checks.integer("select.mislabelled", value, low=0)
    return checks.number("select.mislabelled", value, low=0, high=1, open_low=True, open_high=True)


def play(pool: Pool, count: int, seed: int, *, mislabelled: int | float | None, cost: int, name: str) -> Chosen:
    """Draws `count` rows by the game with gains 1 - student's margin, at least LEAST_GAIN. cost: 1 for RAD, 2 for RAD-loss.

    The chances of inclusion are count * p, capped at 1. The support is extended to `count` rows where it has fewer.
    No wrong row (m = 0): the closed form has one row, so the most informative `count` are taken, as margin sampling does.
    cost * m >= n: no choice is worth anything to the learner; rows are drawn uniformly. Both are said.
    """
    rng = np.random.default_rng(seed)
    rows = left(pool, count)
    m = _mislabelled(pool, len(rows), mislabelled, name)
    rows = rng.permutation(rows)  # ties of the gain are broken by lot
    gains = np.maximum(unsureness(pool.student, rows), LEAST_GAIN)
    order = np.argsort(-gains, kind="stable")
    rows, gains = rows[order], gains[order]
    about = {"left": len(rows), "mislabelled": m, "wrong_on_validation": pool.wrong}
    if cost * m >= len(rows):
        chosen = np.sort(rng.choice(rows, count, replace=False))
        half = "" if cost == 1 else "half of "
        return Chosen(chosen, about | {"k": len(rows), "value": 0.0, "support": len(rows), "certain": 0}, (
            f"{name}: {m} answers of the {len(rows)} left are expected to be wrong, at least {half}all of them, and no choice is robust then: "
            "rows are drawn uniformly; a better teacher is what helps",))  # fmt: skip
    p, k, value = closed_form(gains, cost * m)
    support = max(k, count)
    chances = inclusion(1 / gains[:support], count)
    chosen = rows[:support][depround(chances, rng)]
    about |= {"k": k, "value": value, "support": support, "certain": int((chances == 1).sum())}
    return Chosen(np.sort(chosen), about, _remarks(name, m, k, count, len(rows)))


def _mislabelled(pool: Pool, n: int, asked: int | float | None, name: str) -> int:
    if asked is None and pool.wrong is None:
        raise Fault(f"{name} must know how many of the teacher's answers are wrong, and there is no validation split to estimate it from: "
                    "set dataset.validation=200 (examples taken from the labelled ones), or select.mislabelled=0.2 (a share) or a number")  # fmt: skip
    if isinstance(asked, int):
        return min(asked, n)
    return round((pool.wrong if asked is None else asked) * n)


def _remarks(name: str, m: int, k: int, count: int, n: int) -> tuple[str, ...]:
    if m == 0:
        return (f"{name}: none of the {n} answers left is expected to be wrong (m = 0), so the most informative are taken, as select=margin does; "
                "set select.mislabelled where validation is too small to tell",)  # fmt: skip
    if k < count:
        return (f"{name}: its choice spreads over {k} of the {n} rows left and {count} are bought, so the {count} most informative are all taken, "
                "as select=margin does; buy fewer at a time (more rounds, or a smaller budget)",)  # fmt: skip
    return ()
