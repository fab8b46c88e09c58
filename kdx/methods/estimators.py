"""How far a teacher is to be believed, estimated from its answers on a validation split: isotonic regression
and nearest neighbours.

All of it is plain statistics: tensors in, tensors out, no gradient. Neither the test split nor the pool's
truth can get here: what a method hands over is what `Parts` holds, and that has neither. scikit-learn is
imported inside the functions that need it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kdx.core import Batch, Parts, Split
from kdx.faults import Caution, Fault
from kdx.functional import margin

EPS = 1e-8
MOST = 1e3
"""The largest distortion d: one example whose true loss is nearly nothing must not decide a neighbourhood
alone.
"""
FEW = 20
AT_ONCE = 1 << 24
"""Distances held in memory at a time, 64 MiB of them."""


# What is asked of the validation split


def validation_split(split: Split | None, method: str) -> Split:
    """The split, or a Fault that says how to make one. method: the words of the command line, such as
    `loss=slam`.
    """
    if split is None:
        raise Fault(
            f"{method} estimates from a validation split how often the teacher is right, and this run has "
            "none: set dataset.validation=0.1, a share of the training rows, or how many"
        )
    return split


@torch.no_grad()
def ask(parts: Parts, *answerers: Callable[[Batch], Tensor]) -> tuple[Tensor, ...]:
    """((V,) int64 classes, then (V, C) float32 logits of each answerer), for the validation rows, each in one
    view such as training shows: a teacher is right less often, and less sure, about augmented pictures than
    about clean ones, and it is the former that it is asked about.
    """
    batches = parts.validation_views() if parts.validation_views else parts.validation.clean()
    found = [(batch.y, *(answer(batch).float() for answer in answerers)) for batch in batches]
    truth, *logits = (torch.cat(parts) for parts in zip(*found, strict=True))
    return truth.to(logits[0].device), *logits


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Inside, the network is in eval mode; afterwards each of its layers is in the mode it was in."""
    modes = [(layer, layer.training) for layer in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def caution(truth: Tensor, right: Tensor, method: str, always_right: str, always_wrong: str) -> None:
    """Warns of a validation split that can tell little. truth: (V,) classes; right: (V,) bool, whether the
    teacher's first choice is true.

    always_right, always_wrong: what the method does where the teacher is never wrong, or never right, on
    validation.
    """
    rows, hits = len(truth), int(right.sum())
    says = []
    if rows < FEW:
        # Laplace's rule: with few rows the plain rate is often 0 or 1, and its error would come out as
        # nothing
        rate = (hits + 1) / (rows + 2)
        error = math.sqrt(rate * (1 - rate) / rows)
        says.append(
            f"the validation split has {rows} rows: the teacher's accuracy on it, {hits / rows:.1%}, has a "
            f"standard error of {100 * error:.0f} points; give it {FEW} rows at least, better some hundreds "
            "(dataset.validation)"
        )
    if len(truth.unique()) == 1:
        says.append(
            f"all validation rows are of class {int(truth[0])}: what is estimated holds for that class only, "
            f"and from {rows} rows (standard error at most {50 / math.sqrt(rows):.0f} points)"
        )
    if hits in (0, rows):
        says.append(
            f"the teacher is {'never' if hits else 'always'} wrong on the {rows} validation rows: "
            f"{always_right if hits else always_wrong}"
        )
    for sentence in says:
        warnings.warn(f"{method}: {sentence}", Caution, stacklevel=3)


# Isotonic regression


def isotonic(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The increasing least-squares fit of y on x (pool adjacent violators) -> knots and values, both (max(n,
    2),) float32, for `interpolate`.

    x, y: (n,). Rows of equal x count as one with their mean. The last knot is repeated up to that fixed
    length, so that a buffer holds any fit.
    """
    from sklearn.isotonic import IsotonicRegression

    fit = IsotonicRegression(increasing=True).fit(x.double().cpu().numpy(), y.double().cpu().numpy())
    size = max(len(x), 2)
    knots, values = (torch.from_numpy(a).float() for a in (fit.X_thresholds_, fit.y_thresholds_))
    return tuple(torch.cat([a, a[-1:].expand(size - len(a))]).to(x.device) for a in (knots, values))


def interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """(n,) -> (n,): linear between knots, the end values beyond them. knots: (m,) increasing, m >= 2; values:
    (m,).
    """
    right = torch.searchsorted(knots, x.contiguous()).clamp(1, len(knots) - 1)
    left = right - 1
    width = knots[right] - knots[left]
    share = torch.where(width > 0, (x - knots[left]) / width.clamp_min(1e-30), 1.0).clamp(0, 1)
    return torch.lerp(values[left], values[right], share)


# Top-k accuracy

BY = ("mass", "gap")


def top_k_score(ranked: Tensor, by: str) -> Tensor:
    """(n, C) probabilities, largest first -> (n, C): what tells how safe the first k are, k = 1 to C.

    mass: p_(1) + ... + p_(k). gap: p_(k) - p_(k+1), the margin for k = 1; p_(C+1) is 0.
    """
    return ranked.cumsum(1) if by == "mass" else ranked - torch.nn.functional.pad(ranked[:, 1:], (0, 1))


def top_k_hits(probs: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """(n, C) probabilities, (n,) classes -> ((n, C) probabilities, largest first; (n, C) bool: the truth is
    among the first k, k = 1 to C)
    """
    ranked, order = probs.sort(dim=1, descending=True, stable=True)
    return ranked, (order == truth[:, None]).cumsum(1) > 0


def top_k_curve(probs: Tensor, truth: Tensor, k: int, by: str) -> tuple[Tensor, Tensor]:
    """Knots and values of the top-k accuracy as an increasing function of `top_k_score`. 1 <= k <= C."""
    ranked, hits = top_k_hits(probs, truth)
    return isotonic(top_k_score(ranked, by)[:, k - 1], hits[:, k - 1].float())


def top_k_cuts(probs: Tensor, truth: Tensor, threshold: float, by: str) -> Tensor:
    """(V, C) probabilities, (V,) classes -> (C,): the least score at which the fitted top-k accuracy reaches
    `threshold`, for k = 1 to C.

    -inf: it does everywhere, inf: nowhere. As the curves increase, these numbers are all that k(x) needs. k =
    1 is never enough (a mix needs two classes), and k = C always is, so every row finds its k.
    """
    ranked, hits = top_k_hits(probs, truth)
    scores = top_k_score(ranked, by)
    cuts = torch.full((probs.shape[1],), -math.inf, device=probs.device)
    cuts[0] = math.inf
    for k in range(2, probs.shape[1]):
        cuts[k - 1] = reaches(*isotonic(scores[:, k - 1], hits[:, k - 1].float()), threshold)
        if cuts[k - 1] == -math.inf:
            break
    return cuts


def reaches(knots: Tensor, values: Tensor, threshold: float) -> float:
    """The least x at which the interpolated curve is `threshold`; -inf where it never falls below, inf where
    it never gets there.
    """
    if values[-1] < threshold:
        return math.inf
    first = int((values >= threshold).nonzero()[0])
    if first == 0:
        return -math.inf
    low, high = values[first - 1], values[first]
    return float(torch.lerp(knots[first - 1], knots[first], (threshold - low) / (high - low)))


def smallest_k(probs: Tensor, cuts: Tensor, by: str) -> Tensor:
    """(n, C) probabilities, (C,) cuts of `top_k_cuts` -> (n,) int64: the smallest k whose estimated top-k
    accuracy reaches the threshold.
    """
    enough = int((cuts == -math.inf).nonzero()[0]) + 1
    ranked = probs.topk(min(enough + 1, probs.shape[1]), dim=1).values
    return (top_k_score(ranked, by)[:, :enough] >= cuts[:enough]).int().argmax(1) + 1


# Nearest neighbours


def margins(teacher: Tensor, student: Tensor) -> Tensor:
    """Logits (n, C) of both -> (n, 2): the margin of each, in [0, 1]."""
    return torch.stack([margin(teacher.float().softmax(1)), margin(student.float().softmax(1))], dim=1)


def nearest(points: Tensor, queries: Tensor, k: int) -> Tensor:
    """(V, 2), (n, 2) -> (n, k) int64: the k nearest points of each query, by Euclidean distance, exactly. 1
    <= k <= V. Fit for a batch.
    """
    found = []
    for part in queries.split(max(1, AT_ONCE // len(points))):
        # Not torch.cdist: its matrix product loses the small differences between margins near 1.
        distance = (part[:, :1] - points[:, 0]).square_().add_((part[:, 1:] - points[:, 1]).square_())
        found.append(distance.topk(k, dim=1, largest=False).indices)
    return torch.cat(found) if found else torch.empty(0, k, dtype=torch.int64, device=queries.device)


def nearest_of_many(points: Tensor, queries: Tensor, k: int) -> Tensor:
    """As `nearest`, by a k-d tree: for more queries than a batch has. Points equally far may come out in
    another order.
    """
    from sklearn.neighbors import KDTree

    tree = KDTree(points.double().cpu().numpy())
    return torch.from_numpy(
        tree.query(queries.double().cpu().numpy(), k=k, return_distance=False, sort_results=False)
    ).to(points.device)


# Distortion and weights (Weighted Distillation with Unlabeled Examples, arXiv 2210.06711)

ESTIMATORS = ("mean_of_ratios", "ratio_of_means")


def debiasing_weight(p: Tensor, d: Tensor) -> Tensor:
    """P(teacher wrong) in [0, 1] and distortion d >= 0, both (n,) -> (n,): min{1, 1 / (1 + p (d - 1))}, in
    [0, 1]
    """
    return 1 / (1 + p * (d - 1)).clamp_min(1.0)


def distortion(found: Tensor, wrong: Tensor, true: Tensor, noisy: Tensor) -> tuple[Tensor, Tensor]:
    """(n, k) neighbours -> p and d, both (n,): the share of them that the teacher gets wrong, and those wrong
    ones' mean noisy / true loss.

    wrong: (V,) bool; true, noisy: (V,) the student's losses on the truth and on the teacher's answer. The
    noisy loss is the numerator: a student that knows better than the teacher has a large d, and its weight is
    small. Each ratio is clipped to [0, 1e3]; without a wrong neighbour d is 1.
    """
    ratio = ((noisy + EPS) / (true + EPS)).clamp(0, MOST)
    mistakes = wrong[found].float()
    count = mistakes.sum(1)
    d = torch.where(count > 0, (ratio[found] * mistakes).sum(1) / count.clamp_min(1), 1.0)
    return count / found.shape[1], d


def weigh(found: Tensor, wrong: Tensor, true: Tensor, noisy: Tensor, estimator: str) -> Tensor:
    """(n, k) neighbours and the statistics of the (V,) points -> (n,) weights in [0, 1].

    mean_of_ratios: `debiasing_weight` of `distortion`. ratio_of_means: min{1, sum of true / sum of noisy
    losses} over all neighbours, which aims at the same weight and divides by no small loss.
    """
    if estimator == "mean_of_ratios":
        return debiasing_weight(*distortion(found, wrong, true, noisy))
    return ((true[found].sum(1) + EPS) / (noisy[found].sum(1) + EPS)).clamp(max=1.0)


def weight_grid(
    points: Tensor, wrong: Tensor, true: Tensor, noisy: Tensor, *, k: int, estimator: str, cells: int
) -> Tensor:
    """(cells, cells) weights at equally spaced margins from 0 to 1, the teacher's along the first axis: exact
    there.
    """
    ticks = torch.linspace(0, 1, cells, device=points.device)
    return weigh(
        nearest_of_many(points, torch.cartesian_prod(ticks, ticks), k), wrong, true, noisy, estimator
    ).view(cells, cells)


def look_up(grid: Tensor, queries: Tensor) -> Tensor:
    """(cells, cells), (n, 2) margins -> (n,): the weight at the nearest place of the grid."""
    place = (queries * (len(grid) - 1)).round().long().clamp_(0, len(grid) - 1)
    return grid.flatten()[place[:, 0] * len(grid) + place[:, 1]]
