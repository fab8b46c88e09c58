"""Adversarial examples: rows moved a little, within a box, so that a network errs as far as it can."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def box(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The lowest and the highest that each value of x, in [0, 1], may become: at most epsilon away, and
    in [0, 1]."""
    return (x - epsilon).clamp_min(0), (x + epsilon).clamp_max(1)


def ascend(
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    epsilon: float,
    step: float,
    steps: int,
    begin: Tensor | None = None,
) -> Tensor:
    """(B, ...) in [0, 1] -> the same shape and range, without gradient: `steps` times each value goes by
    `step` to where its row's loss grows, and back into the box around x.

    loss: (B, ...) -> (B,), a row's own, to be made large. begin: where it starts, None: at x. With one step
    of epsilon from x it is FGSM (Goodfellow, Shlens and Szegedy 2015, arXiv 1412.6572); with several,
    projected gradient descent (Madry et al. 2018, arXiv 1706.06083), of the largest change of a value,
    epsilon >= 0. Where the loss hangs on no value, x is given back; RuntimeError where it has no gradient at
    all.
    """
    low, high = box(x, epsilon)
    found = x if begin is None else begin.clamp(low, high)
    with torch.enable_grad():
        for _ in range(steps):
            found = found.detach().requires_grad_()
            (slope,) = torch.autograd.grad(loss(found).sum(), found)
            found = torch.minimum(torch.maximum(found.detach() + step * slope.sign(), low), high)
    return found.detach()


def usual_step(epsilon: float, steps: int) -> float:
    """2.5 epsilon / steps: so far that the border of the box is reached from anywhere in it (Madry et
    al.)."""
    return 2.5 * epsilon / max(1, steps)
