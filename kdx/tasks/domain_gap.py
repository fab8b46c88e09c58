"""How far the pool lies from the labelled rows."""

from __future__ import annotations

import numpy as np

_FOLDS = 5
_RIDGE = 10.0
_LEAST = 20
"""Rows on a side, below which nothing could be known."""


def domain_gap(labelled: np.ndarray, pool: np.ndarray, seed: int) -> dict[str, float] | None:
    """How well a linear classifier, cross-validated, tells labelled rows from the pool's; features (n, D)
    and (m, D), of the longer side as many as of the shorter one.

    {"accuracy" (balanced, 0.5 is guessing), "standard_error", "a_distance" = 2 (1 - 2 error), in [-2, 2]: the
    proxy A-distance of Ben-David et al. 2007}. None with fewer than 20 rows on a side.
    """
    size = min(len(labelled), len(pool))
    if size < _LEAST:
        return None
    rng = np.random.default_rng(seed)
    rows = np.concatenate([side[rng.permutation(len(side))[:size]] for side in (labelled, pool)])
    of_pool, fold = np.repeat([False, True], size), _folds(size)
    right = 0
    for number in range(_FOLDS):
        asked = fold == number
        right += int((_predicted(rows[~asked], of_pool[~asked], rows[asked]) == of_pool[asked]).sum())
    accuracy = right / len(rows)
    return {
        "accuracy": accuracy,
        "standard_error": float((0.25 / (2 * size)) ** 0.5),
        "a_distance": 2 * (1 - 2 * (1 - accuracy)),
    }


def _folds(size: int) -> np.ndarray:
    """(2 size,) in [0, 5): the fold of each row of two sides, which all folds have alike: those of
    scikit-learn's StratifiedKFold(5, shuffle=True, random_state=0)."""
    fold = np.sort((np.arange(2 * size) % _FOLDS).reshape(2, size), axis=1)
    random = np.random.RandomState(0)
    for side in fold:
        random.shuffle(side)
    return fold.reshape(-1)


def _predicted(known: np.ndarray, truth: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """(n, D) and (n,) bool, (m, D) -> (m,) bool: what scikit-learn's RidgeClassifier(alpha=10) says, which
    takes over a second to import. Ridge regression on -1 and 1, with an intercept that is not made small.
    """
    middle, target = known.mean(0), np.where(truth, 1.0, -1.0)
    x, y = known - middle, target - target.mean()
    if x.shape[1] > len(x):
        weight = x.T @ np.linalg.solve(x @ x.T + _RIDGE * np.eye(len(x)), y)
    else:
        weight = np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ y)
    found: np.ndarray = (asked - middle) @ weight + target.mean() > 0
    return found
