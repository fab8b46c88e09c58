"""Several seeds said in numbers: mean, deviation, paired difference, wins, p, verdict. Pure functions of
lists of numbers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.05
"""A p below this is called significant."""


@dataclass(frozen=True)
class Spread:
    """deviation: the sample's (n - 1 in the denominator), None for one value. low, high: the smallest and the
    largest value.
    """

    n: int
    mean: float
    deviation: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Of the differences more[i] - less[i]. wins: how many are above zero, losses: below. p: two-sided, of a
    paired t-test, uncorrected; None where there is none: a single pair, or differences that are all the same.
    """

    n: int
    mean: float
    deviation: float | None
    wins: int
    losses: int
    p: float | None


def spread(values: Sequence[float]) -> Spread:
    """Of one or more finite numbers."""
    if not values or not all(math.isfinite(v) for v in values):
        raise ValueError(f"spread needs finite numbers, at least one; given: {list(values)}")
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(len(values), statistics.fmean(values), deviation, min(values), max(values))


def paired(more: Sequence[float], less: Sequence[float]) -> Paired:
    """The differences more[i] - less[i], pair by pair:
    both lists hold one value a seed, in the same order.
    """
    if len(more) != len(less):
        raise ValueError(f"paired needs as many values on both sides; given: {len(more)} and {len(less)}")
    differences = [a - b for a, b in zip(more, less, strict=True)]
    found = spread(differences)
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return Paired(found.n, found.mean, found.deviation, wins, losses, t_test(found))


def t_test(differences: Spread) -> float | None:
    """Two-sided p of Student's t-test that the mean is zero.

    None for one value, and where all are the same up to rounding: they say nothing of how far the next one
    would lie.
    """
    found = differences
    if _alike(found):
        return None
    # Student's distribution function; scipy.stats would take four times as long to import
    from scipy.special import (
        stdtr,
    )

    return float(2 * stdtr(found.n - 1, -abs(found.mean) * math.sqrt(found.n) / found.deviation))


def t_interval(values: Spread, level: float = 1 - LEVEL) -> tuple[float, float] | None:
    """Student's interval of the mean, mean +- t s / sqrt(n) with n - 1 degrees of freedom; None where
    `t_test` has none.
    """
    if _alike(values):
        return None
    from scipy.special import stdtrit

    half = float(stdtrit(values.n - 1, (1 + level) / 2)) * values.deviation / math.sqrt(values.n)
    return values.mean - half, values.mean + half


def _alike(values: Spread) -> bool:
    """One value, or all the same up to rounding."""
    return values.deviation is None or values.deviation <= 1e-12 * max(
        abs(values.low), abs(values.high), 1e-12
    )


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Each p corrected for the number of comparisons, those that are not None, by Holm's step-down method
    (1979): the smallest of m is multiplied by m, the next by m - 1, and so on; none is below one before it,
    and none above 1."""
    order = sorted((i for i, p in enumerate(ps) if p is not None), key=lambda i: ps[i])
    found: list[float | None] = [None] * len(ps)
    least = 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * ps[i]))
        found[i] = least
    return found


def verdict(found: Paired, level: float = LEVEL) -> str:
    """ "holds": the first is more, significantly; "contradicted": the other way round; "n.s.": neither."""
    if found.p is None or found.p >= level:
        return "n.s."
    return "holds" if found.mean > 0 else "contradicted"


def chance(p: float | None) -> str:
    """A p as one writes it: "0.0014", "0.12", "<0.0001", "-" where there is none."""
    if p is None:
        return "-"
    return "<0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}" if p >= 0.1 else f"{p:.3f}"


def plus_minus(mean: float, deviation: float | None, digits: int, signed: bool = False) -> str:
    """ "3.0 ± 1.2"; without a deviation the mean alone."""
    text = f"{mean:{'+' if signed else ''}z.{digits}f}"
    return text if deviation is None else f"{text} ± {deviation:.{digits}f}"
