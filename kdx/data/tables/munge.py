"""MUNGE: rows of a table made of others (Bucila, Caruana and Niculescu-Mizil 2006, "Model Compression")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from kdx.core import checks
from kdx.core.errors import UserError, rows_called
from kdx.data.making import RowMaker
from kdx.data.raw import Raw
from kdx.data.tables.rows import TABLE, Table, TableColumn

_BLOCK = 1 << 24
"""Numbers that are looked at together."""


class Munge(RowMaker):
    """Each made-up row is a labelled row, drawn at random, of which each column is with probability `swap`
    that of a near row; then to each number noise is added.

    rows >= 1. swap in [0, 1]. of >= 1: the near row is the nearest of so many other rows, drawn at random;
    null: of all. noise >= 0: deviation of the noise, in deviations of the column over the labelled rows. A
    number that is missing moves with the column that says so, and has no noise.

    The paper passes over all rows in turn, swaps with the nearest of all, and draws a swapped number from a
    normal distribution around the other's, its deviation the distance of the two over `s`; here all numbers
    have noise of one width, as the settings that kdx measures were (docs/tables.md).
    """

    reads: ClassVar[str] = TABLE

    def __init__(self, *, rows: int, swap: float, of: int | None, noise: float):
        self.rows = checks.integer("made_up.rows", rows, low=1)
        self.swap = checks.number("made_up.swap", swap, low=0, high=1)
        self.of = None if of is None else checks.integer("made_up.of", of, low=1)
        self.noise = checks.number("made_up.noise", noise, low=0)

    def idle(self) -> dict[str, str]:
        return (
            {"of": "made_up.swap=0 swaps no column with a near row: leave one of them out"}
            if not self.swap
            else {}
        )

    def make(self, raw: Raw, seen: Any, seed: int) -> np.ndarray:
        if not isinstance(raw, Table):
            raise UserError(
                f"made_up=munge makes rows of tables, and this data set holds {rows_called(raw.reads)}: "
                "set made_up=none"
            )
        if len(seen) < 2:
            raise UserError(f"made_up=munge makes rows of two others at least, and {len(seen)} is labelled")
        random = np.random.Generator(np.random.PCG64([seed, 0]))
        return munge(np.asarray(seen), raw.columns, self, random)


def munge(
    rows: np.ndarray, columns: Sequence[TableColumn], asked: Munge, random: np.random.Generator
) -> np.ndarray:
    """(N, D) -> (asked.rows, D), float32"""
    sorts = np.array([column.categories is not None for column in columns])
    flags = np.array([column.flag for column in columns])
    numbers = ~sorts & ~flags
    spread = np.where(numbers, rows.std(0, dtype=np.float64), 0.0)
    first = random.integers(len(rows), size=asked.rows)
    other = _nearest(rows, first, np.where(spread > 0, spread, 1.0), sorts, asked.of, random)
    swapped = random.random((asked.rows, len(columns))) < asked.swap
    for place, column in enumerate(columns):
        if column.missing is not None:
            swapped[:, column.missing] = swapped[:, place]
    made = np.where(swapped, rows[other], rows[first]).astype(np.float64)
    noise = asked.noise * spread * random.standard_normal(made.shape)
    for place, column in enumerate(columns):
        if column.missing is not None:
            noise[made[:, column.missing] > 0, place] = 0
    return (made + noise).astype(np.float32)


def _nearest(
    rows: np.ndarray,
    first: np.ndarray,
    scale: np.ndarray,
    sorts: np.ndarray,
    of: int | None,
    random: np.random.Generator,
) -> np.ndarray:
    """(M,) the nearest other row of each of (M,) rows: the squared difference of the numbers, in deviations,
    and 1 for each category that differs.
    """
    found = np.empty(len(first), np.int64)
    scaled = rows / scale
    few = len(rows) - 1 if of is None else min(of, len(rows) - 1)
    step = max(1, _BLOCK // (few * rows.shape[1]))
    for start in range(0, len(first), step):
        these = first[start : start + step]
        if few == len(rows) - 1:
            others = np.arange(few)[None].repeat(len(these), 0)
        else:
            others = random.integers(len(rows) - 1, size=(len(these), few))
        others = others + (others >= these[:, None])  # never the row itself
        apart = scaled[others] - scaled[these][:, None]
        apart[..., sorts] = apart[..., sorts] != 0
        nearest = np.square(apart).sum(2).argmin(1)
        found[start : start + step] = others[np.arange(len(these)), nearest]
    return found
