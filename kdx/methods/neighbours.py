"""How far each answer of a teacher is weighted, from the nearest rows of a validation split: distances,
distortion and weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdx.core.math import margin

EPS = 1e-8
_MOST = 1e3
"""The largest distortion d: one example whose true loss is nearly nothing must not decide a neighbourhood
alone.
"""
AT_ONCE = 1 << 24
"""Distances held in memory at a time, 64 MiB of them."""


# Nearest neighbours


def margins(teacher: Tensor, student: Tensor) -> Tensor:
    """Logits (n, C) of both -> (n, 2): the margin of each, in [0, 1]."""
    return torch.stack([margin(teacher.float().softmax(1)), margin(student.float().softmax(1))], dim=1)


def nearest_points(points: Tensor, queries: Tensor, k: int) -> Tensor:
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
    """As `nearest_points`, by a k-d tree: for more queries than a batch has. Points equally far may come out
    in another order.
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
    ratio = ((noisy + EPS) / (true + EPS)).clamp(0, _MOST)
    mistakes = wrong[found].float()
    count = mistakes.sum(1)
    d = torch.where(count > 0, (ratio[found] * mistakes).sum(1) / count.clamp_min(1), 1.0)
    return count / found.shape[1], d


def neighbour_weights(found: Tensor, wrong: Tensor, true: Tensor, noisy: Tensor, estimator: str) -> Tensor:
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
    return neighbour_weights(
        nearest_of_many(points, torch.cartesian_prod(ticks, ticks), k), wrong, true, noisy, estimator
    ).view(cells, cells)


def look_up(grid: Tensor, queries: Tensor) -> Tensor:
    """(cells, cells), (n, 2) margins -> (n,): the weight at the nearest place of the grid."""
    place = (queries * (len(grid) - 1)).round().long().clamp_(0, len(grid) - 1)
    return grid.flatten()[place[:, 0] * len(grid) + place[:, 1]]
