"""Noisy votes of teachers on disjoint shards: what PATE releases (Papernot et al. 2017, arXiv 1610.05755;
2018, arXiv 1802.08908). No torch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdx.core import checks

LAPLACE, GAUSSIAN, CONFIDENT = "laplace", "gaussian", "confident"
NOISES = (LAPLACE, GAUSSIAN, CONFIDENT)
UNANSWERED = -1


@dataclass(frozen=True)
class VoteNoise:
    """The noise that is added to the votes of a query before the largest is named.

    kind: "laplace", of scale `sigma` (1/gamma of the paper of 2017); "gaussian", of deviation `sigma`
    (GNMax, 2018); "confident", the same only where the largest vote, with noise of deviation
    `threshold_sigma`, is `threshold` votes at least (Confident-GNMax, 2018), else the query stays unanswered.
    Raises UserError where a number is out of range.
    """

    kind: str
    sigma: float
    threshold: float | None = None
    threshold_sigma: float | None = None

    def __post_init__(self) -> None:
        checks.choice("recipe.noise", self.kind, NOISES)
        checks.number("recipe.sigma", self.sigma, low=0, open_low=True)
        if self.kind == CONFIDENT:
            checks.number("recipe.threshold", self.threshold, low=0)
            checks.number("recipe.threshold_sigma", self.threshold_sigma, low=0, open_low=True)

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = {"kind": self.kind, "sigma": self.sigma}
        if self.kind == CONFIDENT:
            found |= {"threshold": self.threshold, "threshold_sigma": self.threshold_sigma}
        return found

    def in_words(self) -> str:
        if self.kind == LAPLACE:
            return f"Laplace noise of scale {self.sigma:g}"
        said = f"Gaussian noise of deviation {self.sigma:g}"
        if self.kind == GAUSSIAN:
            return said
        return (
            f"{said}, where the largest vote with noise of deviation {self.threshold_sigma:g} is "
            f"{self.threshold:g} at least"
        )


def source_of_noise(seed: int | None) -> random.Random:
    """None: the randomness of the operating system, which nobody can draw again; a number: reproducible, and
    without any guarantee towards whoever knows it.
    """
    return random.SystemRandom() if seed is None else random.Random(seed)


def votes_named(probs: np.ndarray) -> np.ndarray:
    """(Q, K) -> (Q,) int64: the vote of one teacher for each query, of equal ones the first class."""
    return probs.argmax(1).astype(np.int64)


def count_votes(said: np.ndarray, classes: int) -> np.ndarray:
    """(M, Q) int64 first choices of M teachers -> (Q, K) int64 votes"""
    found = np.zeros((said.shape[1], classes), np.int64)
    for row in said:
        found[np.arange(said.shape[1]), row] += 1
    return found


def exact_labels(votes: np.ndarray) -> np.ndarray:
    """(Q, K) -> (Q,) int64: the class of most votes, of equal ones the first. No privacy at all."""
    return votes.argmax(1)


def noisy_labels(votes: np.ndarray, noise: VoteNoise, source: random.Random) -> np.ndarray:
    """(Q, K) -> (Q,) int64: the class of most votes after the noise, UNANSWERED where it is not confident.

    One row of the private data trains one teacher, whose vote it can move from one class to another: one
    count less, one more, by 1 each.
    """
    return np.array([_one(row, noise, source) for row in votes.tolist()], np.int64)


def _one(votes: Sequence[int], noise: VoteNoise, source: random.Random) -> int:
    if noise.kind == CONFIDENT:
        assert noise.threshold is not None and noise.threshold_sigma is not None
        if max(votes) + source.gauss(0.0, noise.threshold_sigma) < noise.threshold:
            return UNANSWERED
    noised = [vote + _drawn(noise, source) for vote in votes]
    return noised.index(max(noised))


def _drawn(noise: VoteNoise, source: random.Random) -> float:
    if noise.kind == LAPLACE:  # the difference of two exponential numbers
        return source.expovariate(1 / noise.sigma) - source.expovariate(1 / noise.sigma)
    return source.gauss(0.0, noise.sigma)


def wrong_by_noise(votes: Sequence[float], gamma: float) -> float:
    """At most: the probability that Laplace noise of scale 1/gamma names another class than that of most
    votes: sum over these of (2 + gamma D) / (4 exp(gamma D)), D votes behind (2017, lemma 4)."""
    order = sorted(votes, reverse=True)
    gaps = [gamma * (order[0] - vote) for vote in order[1:]]
    return min(1 - 1 / len(order), sum((2 + gap) / (4 * math.exp(gap)) for gap in gaps))


def log_moment(votes: Sequence[float], gamma: float, order: int) -> float:
    """At most: the log-moment of one Laplace vote at l = `order` >= 1 (2017, theorems 2 and 3), given the
    votes."""
    found = min(2 * gamma**2 * order * (order + 1), 2 * gamma * order)
    q = wrong_by_noise(votes, gamma)
    if 0 < q < min(0.5, (math.exp(2 * gamma) - 1) / (math.exp(4 * gamma) - 1)):
        ratio = (1 - q) / (1 - math.exp(2 * gamma) * q)
        inside = (1 - q) * ratio**order + q * math.exp(2 * gamma * order)
        found = min(found, math.log(inside))
    return found


def epsilon_given_votes(
    votes: Sequence[Sequence[float]], gamma: float, delta: float, orders: int = 32
) -> float:
    """The data-dependent bound of the paper of 2017 on Laplace votes: min over l of (sum of log-moments +
    log 1/delta) / l, l up to `orders`. It is computed from the votes and so is private itself: no run prints
    or stores it, and no guarantee is made of it.
    """
    return min(
        (sum(log_moment(row, gamma, order) for row in votes) - math.log(delta)) / order
        for order in range(1, orders + 1)
    )
