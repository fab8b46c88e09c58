"""What the rules share: which rows are left, and what softmax makes of logits, a piece at a time so that a
large pool fits in memory.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from kdx.core.errors import Caution, UserError
from kdx.methods.select import Pool

_PIECE = 1 << 20
"""Numbers in a piece: it stays in the processor's cache."""
MOST_ROWS = 50_000
"""Rows that a rule may compare with each other."""


def remaining(pool: Pool, count: int | None) -> np.ndarray:
    """Rows that are not taken, ascending. UserError where they are fewer than `count`."""
    rows = np.flatnonzero(~pool.taken)
    if count is None or count < 1:
        raise UserError(f"a rule that buys answers gets how many, at least 1; given: {count}: set budget")
    if count > len(rows):
        raise UserError(
            f"{count} answers are to be bought, but only {len(rows)} of the pool's {len(pool)} rows are "
            "left: lower budget"
        )
    return rows


def sampled(rows: np.ndarray, count: int, sample: int | None, rng: np.random.Generator) -> np.ndarray:
    """At most `sample` of the rows, drawn at random, ascending. UserError where what is left is too many to
    compare, or fewer than `count`.
    """
    comparable(len(rows), count, sample)
    if sample is not None and sample < len(rows):
        return np.sort(rng.choice(rows, sample, replace=False))
    return rows


def comparable(rows: int, count: int, sample: int | None) -> None:
    """UserError where so many rows cannot be compared with each other, or `sample` of them are fewer than
    `count`.
    """
    if sample is not None and sample < rows:
        if count > sample:
            raise UserError(
                f"{count} answers are to be bought among select.sample={sample} rows: set select.sample to "
                f"more than {count}"
            )
    elif rows > MOST_ROWS:
        raise UserError(
            f"this rule compares rows with each other, at most {MOST_ROWS:,} of them, and {rows:,} "
            f"are left: set select.sample={MOST_ROWS // 2} to draw so many first, or choose "
            "select=margin or select=rad"
        )


def beforehand(work: str, size: int) -> list[str]:
    """Says at once what a rule is about to do and how many bytes it takes, and gives the same sentence back
    for `Chosen.warnings`.

    UserError where the machine has less memory in all.
    """
    text = f"{work}: about {_bytes(size)} of memory"
    if "sysconf" in vars(os) and size > (here := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
        raise UserError(
            f"{text}, and this machine has {_bytes(here)}: set select.sample=10000 to draw so many rows first"
        )
    warnings.warn(text, Caution, stacklevel=2)
    return [text]


def _bytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(size / 1e6, 1):.0f} MB"


def finite(features: np.ndarray) -> np.ndarray:
    """The same, in float64: in float32 the distance of two near rows is mostly rounding. UserError where one
    is not a number.
    """
    if not np.isfinite(features).all():
        raise UserError(
            "the features to choose by hold NaN or infinity: that network's training "
            "has failed; try a lower lr"
        )
    return features.astype(np.float64)


def lowest(values: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of the `count` smallest values, smallest first; equal ones in random order."""
    order = rng.permutation(len(values))
    return order[np.argsort(values[order], kind="stable")[:count]]


def buy_lowest(
    pool: Pool, count: int | None, seed: int, score: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, float, int]:
    """score: rows -> a number each. ((count,) rows with the lowest, ascending; the highest score among them;
    rows that were left)
    """
    rows = remaining(pool, count)
    scores = score(rows)
    picked = lowest(scores, count, np.random.default_rng(seed))
    return np.sort(rows[picked]), float(scores[picked[-1]]), len(rows)


def confidence(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, C) -> the highest probability (n,) in [1 / C, 1], and its class (n,) int64"""
    if not len(logits):
        raise UserError("the pool has no rows to choose from: set dataset.labelled lower")
    highest, best = np.empty(len(logits)), np.empty(len(logits), dtype=np.int64)
    for at, probs in _probs(logits, np.arange(len(logits))):
        best[at] = probs.argmax(1)
        highest[at] = probs.max(1)
    return highest, best


def row_margins(logits: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The highest less the second highest probability of each of the rows: (len(rows),) in [0, 1]

    In float32 and in terms of the odds against the highest, (1 - odds of the second) / (1 + odds of all):
    margins near 1 stay apart, as the odds are precise however small they are, and a hundred classes take half
    the time of a softmax in float64.
    """
    found = np.empty(len(rows))
    for at, part in _pieces(logits, rows):
        best = part.argmax(1)
        odds = np.exp(part, out=part)
        odds[np.arange(len(odds)), best] = 0
        found[at] = (1 - odds.max(1).astype(np.float64)) / (1 + odds.sum(1, dtype=np.float64))
    return found


def entropy(logits: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Of each of the rows, in nats: (len(rows),) in [0, log C]"""
    found = np.empty(len(rows))
    for at, probs in _probs(logits, rows):
        found[at] = -(probs * np.log(np.maximum(probs, 1e-300))).sum(1)
    return found


def sure(highest: np.ndarray, threshold: float) -> np.ndarray:
    """Rows with at least this confidence, ascending; UserError where there are none."""
    rows = np.flatnonzero(highest >= threshold)
    if not len(rows):
        most = float(highest.max())
        raise UserError(
            f"no pseudo-label reaches select.threshold={threshold:g}: the highest confidence of "
            f"{len(highest)} is {most:.4g}. Set select.threshold={math.floor(100 * most) / 100:g} or lower, "
            "or train the teacher longer"
        )
    return rows


def missing(per_class: np.ndarray) -> list[str]:
    """A warning where classes are left without a row."""
    none = np.flatnonzero(per_class == 0)
    if not len(none):
        return []
    first = ", ".join(map(str, none[:10])) + (" and more" if len(none) > 10 else "")
    return [
        (
            f"{len(none)} of {len(per_class)} classes have no pseudo-label ({first}): the pool teaches the "
            "student nothing of them"
        )
    ]


def _probs(logits: np.ndarray, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """(positions in `rows`, softmax of these rows (B, C) float64), a piece at a time"""
    for at, part in _pieces(logits, rows):
        probs = np.exp(part, dtype=np.float64)
        probs /= probs.sum(1, keepdims=True)
        yield at, probs


def _pieces(logits: np.ndarray, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """(positions in `rows`, logits of these rows less each row's largest (B, C) float32, the caller's to
    overwrite), a piece at a time
    """
    step = max(1, _PIECE // logits.shape[1])
    for start in range(0, len(rows), step):
        at = slice(start, min(start + step, len(rows)))
        part = logits[rows[at]]
        part -= part.max(1, keepdims=True)
        if not np.isfinite(part).all():
            row = rows[at][~np.isfinite(part).all(1)][0]
            raise UserError(
                f"the answers to choose by hold NaN or infinity, first in pool row {row}:"
                " that network's training has failed; try a lower lr"
            )
        yield at, part
