"""What the rules share: probabilities a chunk at a time, the rows that are left, the smallest scores with ties broken by lot."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from kdx import checks
from kdx.faults import Fault
from kdx.select import Pool

CHUNK = 1 << 16
"""Rows whose probabilities are held at once: a million answers in a thousand classes would take 8 GB."""
QUADRATIC = 50_000
"""Rows above which nothing is done that grows with their square."""


def softmax(logits: np.ndarray) -> np.ndarray:
    """(B, C) -> (B, C) float64, rows sum to 1"""
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=1, keepdims=True)
    return z


def by_row(function: Callable[[np.ndarray], np.ndarray], logits: np.ndarray, rows: np.ndarray, whose: str) -> np.ndarray:
    """function((B, C) probabilities) -> (B,), for the named rows of the (n, C) logits. whose: "teacher" or "student", for the Fault."""
    found = []
    for start in range(0, len(rows), CHUNK):
        here = logits[rows[start : start + CHUNK]]
        if not np.isfinite(here).all():
            raise Fault(f"the {whose}'s logits for the pool are not finite: its training has diverged; lower its rate or clip its gradient")
        found.append(function(softmax(here)))
    return np.concatenate(found)


def unsureness(logits: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n, C) logits of the student -> (len(rows),): 1 - (largest - second largest probability), in [0, 1]"""

    def unsure(probs: np.ndarray) -> np.ndarray:
        top = np.partition(probs, -2, axis=1)[:, -2:]
        return 1 - top[:, 1] + top[:, 0]

    return by_row(unsure, logits, rows, "student")


def left(pool: Pool, count: int | None) -> np.ndarray:
    """The rows that no earlier round chose, ascending. Fault where there are fewer than `count`."""
    if count is None or count < 1:
        raise ValueError(f"a rule that buys is told how many rows, at least 1; given: {count}")
    rows = np.flatnonzero(~pool.taken)
    if count > len(rows):
        raise Fault(f"{_rows(count, 'answer')} should be bought, and {len(rows)} of the pool's {_rows(len(pool))} are left: "
                    f"lower the budget by {count - len(rows)} or more, or give a larger pool")  # fmt: skip
    return rows


def smallest(scores: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of the `count` smallest scores, ascending. Ties at the edge are broken by lot: a folder's rows often lie in order of class."""
    edge = np.partition(scores, count - 1)[count - 1]
    below, at = np.flatnonzero(scores < edge), np.flatnonzero(scores == edge)
    return np.sort(np.concatenate([below, rng.choice(at, count - len(below), replace=False)]))


def sampled(rows: np.ndarray, count: int, sample: int | None, rng: np.random.Generator) -> np.ndarray:
    """`sample` of the rows, drawn at random, ascending; all of them for None. Fault where that is too few, or the rest would be quadratic."""
    if sample is not None and sample < count:
        raise Fault(f"select.sample={sample} leaves fewer rows than the {_rows(count, 'answer')} to be bought: "
                    f"set select.sample to {count} or more, or null")  # fmt: skip
    if sample is not None and sample < len(rows):
        rows = np.sort(rng.choice(rows, sample, replace=False))
    if len(rows) > QUADRATIC:
        raise Fault(f"this rule compares rows with each other, and {_rows(len(rows))} are too many (above {QUADRATIC}): sample first, "
                    f"such as select.sample={max(20_000, min(count, QUADRATIC))}, which draws so many at random to choose among")  # fmt: skip
    return rows


def finite_features(pool: Pool, rows: np.ndarray) -> np.ndarray:
    """(len(rows), D) float64 features of the named rows"""
    found = pool.features[rows].astype(np.float64)
    if not np.isfinite(found).all():
        raise Fault("the student's features of the pool are not finite: its training has diverged; lower its rate or clip its gradient")
    return found


def check_sample(sample: int | None) -> int | None:
    return None if sample is None else checks.integer("select.sample", sample, low=1)


def memory(needed: float, rule: str, what: str) -> str:
    """The sentence that tells how much memory a rule is about to take. Fault where this machine has less in all."""
    sentence = f"{rule} takes about {needed / 1e6:,.0f} MB of memory for {what}"
    if "sysconf" in vars(os):
        here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if needed > here:
            raise Fault(f"{sentence}, and this machine has {here / 1e6:,.0f} MB: sample first, such as select.sample=10000")
    return sentence


def _rows(count: int, word: str = "row") -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
