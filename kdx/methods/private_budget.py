"""What noisy votes cost: epsilon at a delta, before a vote is cast, so that it hangs on no data. No torch."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from collections.abc import Iterator
from typing import Any

from kdx.core.errors import UserError
from kdx.methods.private_votes import CONFIDENT, LAPLACE, VoteNoise

_INTERVAL = 1e-3
"""Of the accountant's grid of privacy losses; it rounds up."""
_FAR = 60.0
"""An epsilon beyond which the grid is not made: no guarantee that means anything is so large."""
_WORTHLESS = 100.0
"""An epsilon above which a promise is none: who guesses a row may be right e^100 times as often for it."""
MOST_QUERIES = 10**6


def check_accountant() -> None:
    """Raises UserError where the accountant is not installed."""
    if importlib.util.find_spec("dp_accounting") is None:
        raise UserError(
            "recipe=private counts what its answers cost with dp-accounting, which is not installed: "
            "pip install 'kdx[privacy]'"
        )


def epsilon_closed(noise: VoteNoise, queries: int, delta: float) -> float:
    """By hand. Laplace of scale b, g = 1/b: 2 g a query, the smaller of pure composition and 4 k g^2 +
    2 g sqrt(2 k ln 1/delta) (Papernot et al. 2017, theorem 2). Gaussian: Renyi, alpha rho of each query with
    rho = 1/sigma^2, of the threshold 1 / (2 threshold_sigma^2) more; in all rho + 2 sqrt(rho ln 1/delta).
    """
    if queries == 0:
        return 0.0
    log = -math.log(delta)
    if noise.kind == LAPLACE:
        g = 1 / noise.sigma
        return min(2 * g * queries, 4 * queries * g**2 + 2 * g * math.sqrt(2 * queries * log))
    rho = queries / noise.sigma**2
    if noise.kind == CONFIDENT:
        assert noise.threshold_sigma is not None
        rho += queries / (2 * noise.threshold_sigma**2)
    return rho + 2 * math.sqrt(rho * log)


def epsilon_spent(noise: VoteNoise, queries: int, delta: float) -> float:
    """By the accountant for privacy loss distributions (dp-accounting), never above `epsilon_closed`: both
    are bounds. Every query is charged in full, answered or not, its threshold too, so the number hangs on no
    private row. Neighbours: data sets that differ in what one row holds."""
    closed = epsilon_closed(noise, queries, delta)
    if queries == 0 or closed > _FAR:
        return closed
    accountant = _accounting("dp_accounting.pld.pld_privacy_accountant").PLDAccountant(
        value_discretization_interval=_INTERVAL
    )
    accountant.compose(_event(noise), queries)
    return min(closed, float(accountant.get_epsilon(delta)))


def doubts(epsilon: float, delta: float, rows: int) -> Iterator[str]:
    """Why a guarantee for each of so many private rows is worth little, a sentence each."""
    if epsilon > _WORTHLESS:
        yield (
            f"epsilon {epsilon:.3g} is no guarantee worth the name, as anything above {_WORTHLESS:g}: raise "
            "recipe.sigma, or lower recipe.queries"
        )
    if delta * rows > 1:
        yield (
            f"delta {delta:g} is not below 1 / {rows:,} private rows: a release that shows one of "
            "them whole would keep the promise; set recipe.delta lower"
        )


def _accounting(module: str) -> Any:
    """A module of dp-accounting. What it logs with keeps the standard error of the moment in which it is
    imported, and closes that, whosever it is, when the log is set up anew: it gets the process's own instead,
    which it leaves open."""
    found = importlib.import_module(module)
    importlib.import_module("absl.logging").get_absl_handler().python_handler.stream = sys.__stderr__
    return found


def _event(noise: VoteNoise) -> Any:
    """One query: two counts change by 1 each, and the largest one by 1 at most."""
    dp_event = _accounting("dp_accounting.dp_event")
    if noise.kind == LAPLACE:
        return dp_event.SelfComposedDpEvent(dp_event.LaplaceDpEvent(noise.sigma), 2)
    answer = dp_event.GaussianDpEvent(noise.sigma / math.sqrt(2))
    if noise.kind != CONFIDENT:
        return answer
    assert noise.threshold_sigma is not None
    return dp_event.ComposedDpEvent([dp_event.GaussianDpEvent(noise.threshold_sigma), answer])


def affordable(noise: VoteNoise, budget: float, delta: float) -> int:
    """How many queries cost `budget` at most, up to MOST_QUERIES."""
    if epsilon_spent(noise, MOST_QUERIES, delta) <= budget:
        return MOST_QUERIES
    few, many = 0, MOST_QUERIES
    while many - few > 1:
        middle = (few + many) // 2 if few else max(1, int(math.sqrt(many)))
        if epsilon_spent(noise, middle, delta) <= budget:
            few = middle
        elif few == 0 and middle == 1:
            return 0
        else:
            many = middle
    return few


def scaled_noise(noise: VoteNoise, times: float) -> VoteNoise:
    """The same with all its noise so many times as wide."""
    wide = None if noise.threshold_sigma is None else noise.threshold_sigma * times
    return VoteNoise(noise.kind, noise.sigma * times, noise.threshold, wide)


def noise_within(noise: VoteNoise, queries: int, budget: float, delta: float) -> VoteNoise:
    """The same noise, widened so that these queries cost `budget` at most, to a hundredth."""
    low = high = 1.0
    while epsilon_spent(scaled_noise(noise, high), queries, delta) > budget:
        low, high = high, 2 * high
    while high - low > 0.01 * low:
        middle = (low + high) / 2
        if epsilon_spent(scaled_noise(noise, middle), queries, delta) <= budget:
            high = middle
        else:
            low = middle
    return scaled_noise(noise, high)
