"""Guessing from a network's answers whether it learned from a row (Shokri et al. 2017, arXiv 1610.05820; Yeom
et al. 2018, arXiv 1709.01604). No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_LEAST = 1e-12


@dataclass(frozen=True)
class Attacked:
    """auc: the share of pairs of a member and another row in which the member is named, 0.5: guessing.
    standard_error: by Hanley and McNeil (1982)."""

    auc: float
    standard_error: float
    members: int
    others: int


def row_losses(probs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N, K), (N,) -> (N,) -log of the probability of the true class, >= 0"""
    return -np.log(np.clip(probs[np.arange(len(truth)), truth], _LEAST, 1))


def attacked(members: np.ndarray, others: np.ndarray) -> Attacked:
    """Scores (M,) and (N,) of rows, larger where an attack takes a row for a member."""
    order = np.concatenate([members, others])
    _, place, counts = np.unique(order, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # of equal ones their mean
    m, n = len(members), len(others)
    auc = float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (m - 1) * (q1 - auc**2) + (n - 1) * (q2 - auc**2)
    return Attacked(auc, math.sqrt(max(spread, 0.0) / (m * n)), m, n)


def by_loss(probs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N,) the score of the loss-threshold attack: the smaller the loss, the likelier a member."""
    return -row_losses(probs, truth)


class ShadowAttack:
    """What tells the rows that a shadow model learned from those that it did not, by logistic regression over
    its loss, its largest probability, the gap to the next and its entropy."""

    def __init__(self, learned: tuple[np.ndarray, np.ndarray], others: tuple[np.ndarray, np.ndarray]):
        """Each (N, K) probabilities and (N,) classes."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        rows = [_features(*part) for part in (learned, others)]
        known = np.repeat([1, 0], [len(part) for part in rows])
        self.model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        self.model.fit(np.concatenate(rows), known)

    def __call__(self, probs: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """(N,)"""
        found: np.ndarray = self.model.decision_function(_features(probs, truth))
        return found


def _features(probs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    ordered = np.sort(probs, axis=1)[:, ::-1]
    entropy = -(probs * np.log(np.clip(probs, _LEAST, 1))).sum(1)
    return np.stack([row_losses(probs, truth), ordered[:, 0], ordered[:, 0] - ordered[:, 1], entropy], axis=1)
