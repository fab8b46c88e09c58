"""How far a teacher can be relied on, estimated from its answers on a validation split: isotonic regression
and nearest neighbours.

All of it is plain statistics: tensors in, tensors out, no gradient. Neither the test split nor the pool's
truth can get here: what a method hands over is what `Parts` holds, and that has neither. scikit-learn is
imported inside the functions that need it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from kdx.core.errors import Caution, UserError
from kdx.core.types import Batch, Parts, Split

_FEW = 20


# What is asked of the validation split


def validation_split(split: Split | None, method: str) -> Split:
    """The split, or a UserError that says how to make one. method: the words of the command line, such as
    `loss=slam`.
    """
    if split is None:
        raise UserError(
            f"{method} estimates from a validation split how often the teacher is right, and this run has "
            "none: set dataset.validation=0.1, a share of the training rows, or how many"
        )
    return split


@torch.no_grad()
def validation_answers(parts: Parts, *answerers: Callable[[Batch], Tensor]) -> tuple[Tensor, ...]:
    """((V,) int64 classes, then (V, C) float32 logits of each answerer), for the validation rows, each in one
    view such as training shows: a teacher is right less often, and less sure, about augmented pictures than
    about clean ones, and it is the former that it is asked about.
    """
    batches = parts.validation_views() if parts.validation_views else parts.validation.clean()
    found = [(batch.y, *(answer(batch).float() for answer in answerers)) for batch in batches]
    truth, *logits = (torch.cat(parts) for parts in zip(*found, strict=True))
    return truth.to(logits[0].device), *logits


def caution(truth: Tensor, right: Tensor, method: str, always_right: str, always_wrong: str) -> None:
    """Warns of a validation split that can tell little. truth: (V,) classes; right: (V,) bool, whether the
    teacher's first choice is true.

    always_right, always_wrong: what the method does where the teacher is never wrong, or never right, on
    validation.
    """
    rows, hits = len(truth), int(right.sum())
    says = []
    if rows < _FEW:
        # Laplace's rule: with few rows the plain rate is often 0 or 1, and its error would come out as
        # nothing
        rate = (hits + 1) / (rows + 2)
        error = math.sqrt(rate * (1 - rate) / rows)
        says.append(
            f"the validation split has {rows} rows: the teacher's accuracy on it, {hits / rows:.1%}, has a "
            f"standard error of {100 * error:.0f} points; give it {_FEW} rows at least, better some hundreds "
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
    # on the processor only as many as count; an accelerator would be waited for
    enough = int((cuts == -math.inf).nonzero()[0]) + 1 if cuts.device.type == "cpu" else len(cuts)
    ranked = probs.topk(min(enough + 1, probs.shape[1]), dim=1).values
    return (top_k_score(ranked, by)[:, :enough] >= cuts[:enough]).int().argmax(1) + 1
