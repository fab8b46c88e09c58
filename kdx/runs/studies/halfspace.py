"""Halfspaces with a margin under random classification noise: SLaM's algorithm, its bound, and what it is
compared with. Numpy only.

The points lie in the unit ball, at least `margin` from the plane of a unit vector w*; each label is flipped
with probability `noise`. SLaM (arXiv:2302.03806) fits the student f(x; w) = clip(1/2 + w.x / (2 margin), 0,
1), mixed with the noise, to the noisy labels; the update and the bound below were derived for kdx, in
agreement with the rate claimed there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kdx.core import checks
from kdx.core.errors import UserError

RADII = (1.0, 3.0, 10.0, 30.0)
"""Norms that `tuned_logistic` chooses from."""
HELD_OUT = 0.2
"""Share of the examples on which it does, and `estimate_noise` measures."""
MOST_NUMBERS = 200_000_000
"""Largest rows x dimension, 1.6 GB of float64."""


@dataclass(frozen=True)
class Problem:
    """dimension >= 2; margin in (0, 1); noise in [0, 0.5); stretch > 0, of the first coordinate before the
    points are scaled to norm 1: with stretch=1 the points are the same in all directions, and adding up y x
    already finds w*. rows: examples; steps: updates (the examples are passed over again and again where rows
    < steps); test_rows: clean examples that the error is measured on."""

    dimension: int
    margin: float
    noise: float
    stretch: float
    rows: int
    steps: int
    test_rows: int

    def __post_init__(self) -> None:
        checks.integer("dimension", self.dimension, low=2)
        checks.number("margin", self.margin, low=0, high=1, open_low=True, open_high=True)
        checks.number("noise", self.noise, low=0, high=0.5, open_high=True)
        checks.number("stretch", self.stretch, low=0, open_low=True)
        for name in ("rows", "steps", "test_rows"):
            checks.integer(name, getattr(self, name), low=10, high=MOST_NUMBERS)
        if max(self.rows, self.test_rows) * self.dimension > MOST_NUMBERS:
            checks.refuse(
                f"{max(self.rows, self.test_rows):,} examples of dimension {self.dimension:,} are too many "
                f"to hold: rows x dimension may be {MOST_NUMBERS:,}"
            )


def draw(random: np.random.Generator, rows: int, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """(points (rows, d) of norm 1 outside the margin, their true labels (rows,) in {0, 1}); w* = (1, ..., 1)
    / sqrt(d).

    Normal points, the first coordinate stretched, scaled to norm 1; those within the margin are drawn again.
    """
    d = problem.dimension
    kept: list[np.ndarray] = []
    found = tried = 0
    while found < rows:
        batch = min(max(rows - found, 1000), MOST_NUMBERS // d) * 2
        points = random.standard_normal((batch, d))
        points[:, 0] *= problem.stretch
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        points = points[np.abs(points.sum(1) / math.sqrt(d)) >= problem.margin]
        kept.append(points[: rows - found])
        found, tried = found + len(points), tried + batch
        if tried >= 20_000 and found < tried / 2000:
            raise UserError(
                f"margin={problem.margin} leaves hardly a point: of {tried:,} drawn {found} lie outside it; "
                "lower margin= or dimension="
            )
    points = np.concatenate(kept)
    return points, (points.sum(1) > 0).astype(float)


def flip(random: np.random.Generator, labels: np.ndarray, noise: float) -> np.ndarray:
    """Each label in {0, 1} turned round with probability `noise`."""
    return np.where(random.random(len(labels)) < noise, 1 - labels, labels)


def clipped_ramp(score: float, margin: float) -> float:
    """The student: clip(1/2 + score / (2 margin), 0, 1); 0 or 1 outside the margin."""
    return min(max(0.5 + score / (2 * margin), 0.0), 1.0)


def flipped_mean(f: float, noise: float) -> float:
    """What a label flipped with probability `noise` is on average, where the clean one is f: (1 - noise) f +
    noise (1 - f).
    """
    return (1 - noise) * f + noise * (1 - f)


def sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score)) if score > -700 else 0.0


def bound(problem: Problem) -> float:
    """4 / ((1 - 2 noise) margin sqrt(T)): SLaM's expected error after T updates, each with an example of its
    own. Above 1 it says nothing.

    Proof: the regret is at most sqrt(T); the mixed ramp is (1 - 2 noise) / (2 margin)-Lipschitz in the score,
    so its mean squared distance from the best one's is at most (1 - 2 noise) / (margin sqrt(T)); and a wrong
    sign costs at least ((1 - 2 noise) / 2)^2.
    """
    fresh = min(problem.steps, problem.rows)
    return 4 / ((1 - 2 * problem.noise) * problem.margin * math.sqrt(fresh))


def descend(
    points: np.ndarray,
    labels: np.ndarray,
    order: Sequence[int],
    predict: Callable[[float], float],
    radius: float,
) -> np.ndarray:
    """Projected stochastic gradient descent on the matching loss of `predict`, averaged: the mean of w after
    each update.

    w = 0; for i in order: w <- w - (radius / sqrt(T)) (predict(w.x_i) - y_i) x_i, brought back to norm
    `radius`. T = len(order). The matching loss is the one, convex in w, whose gradient is (predict(w.x) - y)
    x. points: (n, d); labels: (n,) in {0, 1}.
    """
    w, total = np.zeros(points.shape[1]), np.zeros(points.shape[1])
    rate = radius / math.sqrt(len(order))
    for i in order:
        x = points[i]
        w = w - rate * (predict(float(w @ x)) - labels[i]) * x
        norm = math.sqrt(w @ w)
        if norm > radius:
            w *= radius / norm
        total += w
    return total / len(order)


def fit_slam(
    points: np.ndarray, labels: np.ndarray, order: Sequence[int], *, margin: float, noise: float
) -> np.ndarray:
    """SLaM: the mixed ramp fitted to noisy labels in the unit ball. noise=0 is the same descent without the
    correction.
    """
    return descend(points, labels, order, lambda score: flipped_mean(clipped_ramp(score, margin), noise), 1.0)


def estimate_noise(points: np.ndarray, labels: np.ndarray, order: Sequence[int], *, margin: float) -> float:
    """The share of held-out labels that the uncorrected descent on the rest disagrees with, at most 0.49; an
    error of its own adds to it.
    """
    early, late = _apart(len(points))
    w = fit_slam(points, labels, [i for i in order if i < early], margin=margin, noise=0.0)
    return min(0.49, error(w, points[late], labels[late]))


def ball_logistic(
    points: np.ndarray, labels: np.ndarray, order: Sequence[int], *, radius: float
) -> np.ndarray:
    """Logistic regression by the same projected, averaged descent, in the ball of `radius`."""
    return descend(points, labels, order, sigmoid, radius)


def tuned_logistic(points: np.ndarray, labels: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """The same in the ball, of RADII, that agrees best with held-out noisy labels; then on all examples."""
    early, late = _apart(len(points))
    kept = [i for i in order if i < early]
    radius = min(
        RADII, key=lambda r: error(ball_logistic(points, labels, kept, radius=r), points[late], labels[late])
    )
    return ball_logistic(points, labels, order, radius=radius)


def logistic(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Plain logistic regression: no penalty, no intercept, to convergence."""
    from sklearn.linear_model import LogisticRegression

    if labels.min() == labels.max():
        return np.zeros(points.shape[1])
    return LogisticRegression(C=np.inf, fit_intercept=False, max_iter=1000).fit(points, labels).coef_[0]


def perceptron(points: np.ndarray, labels: np.ndarray, order: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(the perceptron's w after the last example, the mean of its w over all examples)"""
    w, total = np.zeros(points.shape[1]), np.zeros(points.shape[1])
    signs = 2 * labels - 1
    for i in order:
        if signs[i] * (w @ points[i]) <= 0:
            w = w + signs[i] * points[i]
        total += w
    return w, total / len(order)


def averaging(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean of y x, with y in {-1, 1}."""
    return (2 * labels - 1) @ points / len(points)


def error(w: np.ndarray, points: np.ndarray, labels: np.ndarray) -> float:
    """Share of labels in {0, 1} that the sign of w.x gets wrong; on the plane itself it says 0."""
    return float(np.mean((points @ w > 0) != (labels > 0.5)))


def _apart(rows: int) -> tuple[int, slice]:
    """(how many examples come before the held-out ones, these)"""
    early = rows - max(1, int(rows * HELD_OUT))
    return early, slice(early, rows)


def draw_passes(random: np.random.Generator, problem: Problem) -> list[int]:
    """The example of each update: in the order drawn the first time, shuffled anew in each further pass."""
    order = list(range(problem.rows))
    while len(order) < problem.steps:
        order += random.permutation(problem.rows).tolist()
    return order[: problem.steps]


METHODS = (
    "SLaM",
    "SLaM, noise estimated",
    "the same without correction",
    "logistic regression",
    "logistic regression in the unit ball",
    "logistic regression, norm tuned",
    "perceptron",
    "perceptron, averaged",
    "averaging y x",
)
"""The keys of `compare_methods`, SLaM first."""


def compare_methods(problem: Problem, seed: int) -> tuple[dict[str, float], float]:
    """(method -> error on clean examples, the noise as it was estimated). All learn from the same noisy
    examples in the same order.
    """
    random = np.random.default_rng(seed)
    points, truth = draw(random, problem.rows, problem)
    labels = flip(random, truth, problem.noise)
    order = draw_passes(random, problem)
    guessed = estimate_noise(points, labels, order, margin=problem.margin)
    last, mean = perceptron(points, labels, order)
    found = (
        fit_slam(points, labels, order, margin=problem.margin, noise=problem.noise),
        fit_slam(points, labels, order, margin=problem.margin, noise=guessed),
        fit_slam(points, labels, order, margin=problem.margin, noise=0.0),
        logistic(points, labels),
        ball_logistic(points, labels, order, radius=1.0),
        tuned_logistic(points, labels, order),
        last,
        mean,
        averaging(points, labels),
    )
    points, truth = draw(random, problem.test_rows, problem)
    return {name: error(w, points, truth) for name, w in zip(METHODS, found, strict=True)}, guessed
