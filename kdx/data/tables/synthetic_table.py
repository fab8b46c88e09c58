"""Rows of a table that are drawn, and not copied: from public ranges alone, or from a Gaussian copula whose
marginals and correlations are released with noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np

from kdx.core import checks
from kdx.core.errors import UserError, rows_called
from kdx.data.making import RowMaker
from kdx.data.raw import Description, Raw
from kdx.data.tables.rows import TABLE, Table, TableColumn, column_of

PUBLIC, COPULA = "public", "copula"
_NORMAL = NormalDist()
_FAR = 2.5
"""Normal scores beyond this are cut off: the tails of a noisy marginal tell nothing."""


class SyntheticTable(RowMaker):
    """rows >= 1. how: "public", each column by itself: numbers evenly in their range, categories evenly;
    nothing is read of any row but the names of columns and categories. "copula": a Gaussian copula of the
    labelled rows (Nelsen 2006): the marginals are histograms of `bins` equal parts of the ranges, the
    correlations those of normal scores, both with Gaussian noise. ranges: number column -> [low, high], which
    must be public: whoever takes them of the private rows releases these. epsilon > 0, delta in (0, 1): what
    the copula costs in all, for data sets that differ in one row. noise_seed: as recipe.noise_seed.

    A copula of private rows is itself a release of them, and is charged (`released`). Both parts are Gaussian
    mechanisms of one multiplier m, the marginals of L2 sensitivity sqrt(2 D), the second moments of scores of
    norm R = sqrt(D) at most of sqrt(2) R^2: rho = 1/m^2 in all, epsilon = rho + 2 sqrt(rho ln 1/delta) (Bun
    and Steinke 2016, arXiv 1605.02065). Longer scores are cut to R, which takes a little of the
    correlations.
    """

    reads: ClassVar[str] = TABLE

    def __init__(
        self,
        *,
        rows: int,
        how: str,
        ranges: Mapping[str, Sequence[float]] | None,
        bins: int,
        epsilon: float,
        delta: float,
        noise_seed: int | None,
    ):
        self.rows = checks.integer("pool.rows", rows, low=1)
        self.how = checks.choice("pool.how", how, (PUBLIC, COPULA))
        self.ranges = {name: _range(name, value) for name, value in (ranges or {}).items()}
        self.bins = checks.integer("pool.bins", bins, low=2)
        self.epsilon = checks.number("pool.epsilon", epsilon, low=0, open_low=True)
        self.delta = checks.number("pool.delta", delta, low=0, high=1, open_low=True, open_high=True)
        self.noise_seed = None if noise_seed is None else checks.integer("pool.noise_seed", noise_seed, low=0)

    def released(self) -> tuple[float, float]:
        return (self.epsilon, self.delta) if self.how == COPULA else (0.0, 0.0)

    def idle(self) -> dict[str, str]:
        why = "it is of pool.how=copula, and pool.how=public reads no row and costs nothing: leave it out"
        return {} if self.how == COPULA else dict.fromkeys(("bins", "epsilon", "delta", "noise_seed"), why)

    def check(self, described: Description) -> None:
        documents = (described.adapter or {}).get("columns") or ()
        check_ranges([column_of(document) for document in documents], self.ranges)

    def make(self, raw: Raw, seen: Any, seed: int) -> np.ndarray:
        if not isinstance(raw, Table):
            raise UserError(
                "pool=synthetic_table makes rows of tables, and this data set holds "
                f"{rows_called(raw.reads)}: leave it out"
            )
        check_ranges(raw.columns, self.ranges)
        random = np.random.Generator(np.random.PCG64([seed, 0]))
        if self.how == PUBLIC:
            return uniform_rows(raw.columns, self.ranges, self.rows, random)
        noise = np.random.Generator(np.random.PCG64(self.noise_seed))
        return copula(np.asarray(seen), raw.columns, self, random, noise)


def _range(name: str, value: Any) -> tuple[float, float]:
    numbers = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    if not numbers or not all(type(end) in (int, float) and math.isfinite(end) for end in value):
        raise UserError(
            f"pool.ranges: '{name}' has two numbers, such as [0, 1]; given: {checks.shown(value)}"
        )
    if value[0] >= value[1]:
        raise UserError(
            f"pool.ranges: of '{name}' the first number is below the second; given: {list(value)}"
        )
    return float(value[0]), float(value[1])


def check_ranges(columns: Sequence[TableColumn], ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raises UserError where a number column has no range."""
    numbers = [column.name for column in columns if column.categories is None and not column.flag]
    if missing := [name for name in numbers if name not in ranges]:
        more = " and more" if len(missing) > 5 else ""
        raise UserError(
            f"pool.ranges has no range for {', '.join(missing[:5])}{more}: "
            "give each column of numbers two that are public, a line such as age: [0, 120] of the file that "
            "pool.ranges names"
        )


def noise_multiplier(epsilon: float, delta: float) -> float:
    """m with 1/m^2 + 2 sqrt(ln(1/delta) / m^2) = epsilon: of each of two that spend it together."""
    log = -math.log(delta)
    return 1 / (math.sqrt(log + epsilon) - math.sqrt(log))


def uniform_rows(
    columns: Sequence[TableColumn],
    ranges: Mapping[str, tuple[float, float]],
    rows: int,
    random: np.random.Generator,
) -> np.ndarray:
    """(rows, D) float32; nothing is missing."""
    made = np.zeros((rows, len(columns)))
    for place, column in enumerate(columns):
        if column.categories is not None:
            made[:, place] = random.integers(len(column.categories), size=rows)
        elif not column.flag:
            made[:, place] = random.uniform(*ranges[column.name], size=rows)
    return made.astype(np.float32)


def copula(
    seen: np.ndarray,
    columns: Sequence[TableColumn],
    asked: SyntheticTable,
    random: np.random.Generator,
    noise: np.random.Generator,
) -> np.ndarray:
    """(N, D) -> (asked.rows, D) float32. random: draws the rows, noise: what the release is hidden by."""
    used = [place for place, column in enumerate(columns) if not column.flag]
    edges = [_edges(columns[place], asked) for place in used]
    m = noise_multiplier(asked.epsilon, asked.delta)
    width = m * math.sqrt(2 * len(used))
    cumulative = [
        _marginal(seen[:, place], each, width, noise) for place, each in zip(used, edges, strict=True)
    ]
    scores = np.stack(
        [_scores(seen[:, place], e, c) for place, e, c in zip(used, edges, cumulative, strict=True)], 1
    )
    alike = _correlations(scores, m, noise)
    drawn = random.multivariate_normal(np.zeros(len(used)), alike, size=asked.rows, method="eigh")
    made = np.zeros((asked.rows, len(columns)))
    for number, (place, each) in enumerate(zip(used, edges, strict=True)):
        made[:, place] = _back(drawn[:, number], each, cumulative[number], columns[place], random)
    return made.astype(np.float32)


def _edges(column: TableColumn, asked: SyntheticTable) -> np.ndarray:
    """The borders of the bins; of categories, of their codes."""
    if column.categories is not None:
        return np.arange(len(column.categories) + 1) - 0.5
    return np.linspace(*asked.ranges[column.name], asked.bins + 1)


def _marginal(values: np.ndarray, edges: np.ndarray, width: float, noise: np.random.Generator) -> np.ndarray:
    """(B + 1,) the share below each border, with noise of deviation `width` on the count of each bin."""
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].astype(np.float64)
    counts = np.clip(counts + noise.normal(0, width, len(counts)), 0, None)
    total = counts.sum()
    shares = counts / total if total > 0 else np.full(len(counts), 1 / len(counts))
    return np.concatenate([[0.0], np.cumsum(shares)])


def _scores(values: np.ndarray, edges: np.ndarray, cumulative: np.ndarray) -> np.ndarray:
    """(N,) normal scores by a released marginal."""
    shares = np.interp(np.clip(values, edges[0], edges[-1]), edges, cumulative)
    low = _NORMAL.cdf(-_FAR)
    return np.array([_NORMAL.inv_cdf(share) for share in np.clip(shares, low, 1 - low)])


def _correlations(scores: np.ndarray, m: float, noise: np.random.Generator) -> np.ndarray:
    """(D, D), symmetric, no eigenvalue below 0, ones on the diagonal."""
    many, wide = scores.shape
    longest = math.sqrt(wide)
    norms = np.linalg.norm(scores, axis=1, keepdims=True)
    short = scores * np.minimum(1, longest / np.maximum(norms, 1e-12))
    upper = np.triu(noise.normal(0, m * math.sqrt(2) * longest**2, (wide, wide)))
    moments = (short.T @ short + upper + np.triu(upper, 1).T) / many
    values, vectors = np.linalg.eigh(moments)
    moments = (vectors * np.clip(values, 1e-3, None)) @ vectors.T
    scale = np.sqrt(np.diag(moments))
    return moments / np.outer(scale, scale)


def _back(
    drawn: np.ndarray,
    edges: np.ndarray,
    cumulative: np.ndarray,
    column: TableColumn,
    random: np.random.Generator,
) -> np.ndarray:
    """Normal scores as values of a column, evenly within a bin."""
    shares = np.array([_NORMAL.cdf(value) for value in drawn])
    at = np.clip(np.searchsorted(cumulative, shares, side="right") - 1, 0, len(edges) - 2)
    if column.categories is not None:
        return at.astype(np.float64)
    return edges[at] + (edges[at + 1] - edges[at]) * random.random(len(drawn))
