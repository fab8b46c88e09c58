"""What several networks share: stochastic depth, the ending of a convolutional net, and checks of their
arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from kdx.core.checks import agreed, number, shown
from kdx.core.errors import UserError

AUTO_DEPTH = 0.2
"""Xie et al. 2020 (Noisy Student, arXiv 1911.04252): the last block survives with probability 0.8, by the
linear rule.
"""


class DropPath(nn.Module):
    """Stochastic depth: in training each row of a residual branch is zeroed with probability `rate`, the
    others are scaled up to keep the mean. It has no state, so rates do not change a network's state dict.
    (Huang et al. 2016, arXiv 1603.09382)
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        kept = torch.empty((len(x),) + (1,) * (x.dim() - 1), dtype=x.dtype, device=x.device).bernoulli_(keep)
        return x * (kept / keep)


def rising(rate: float, blocks: int) -> Iterator[float]:
    """Stochastic depth's linear rule: the i-th of `blocks` branches is dropped at rate * i / blocks, the last
    at `rate`.
    """
    return (rate * (i + 1) / blocks for i in range(blocks))


def pooled_head(width: int, classes: int, dropout: float) -> nn.Sequential:
    """(B, width, H, W) -> (B, classes): mean over the map, dropout, linear."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, classes)
    )


def he(module: nn.Module) -> None:
    """Convolutions start from He's normal, by fan-out, as residual nets do."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")


def check_rates(model: str, *, dropout: float, stochastic_depth: float | str, residual: bool = True) -> float:
    """The rate of stochastic depth. Both rates are numbers in [0, 1); without residual branches (`residual`
    False) the second must be 0.

    stochastic_depth "auto": the AUTO_DEPTH that Noisy Student uses, or 0 where there is no branch to drop.
    """
    number(f"{model}: dropout", dropout, low=0, high=1, open_high=True)
    agreed()
    if stochastic_depth == "auto":
        return AUTO_DEPTH if residual else 0.0
    if isinstance(stochastic_depth, str):
        raise UserError(
            f"{model}: stochastic_depth must be a number in [0, 1), or auto; given: {shown(stochastic_depth)}"
        )
    number(f"{model}: stochastic_depth", stochastic_depth, low=0, high=1, open_high=True, words=["auto"])
    agreed()
    if not residual and stochastic_depth != 0:
        raise UserError(
            f"{model} has no residual branches to drop: set stochastic_depth=0 or auto (given "
            f"{stochastic_depth}), or take a residual net such as resnet20"
        )
    return stochastic_depth


def check_whole(model: str, **numbers: int) -> None:
    """Each is a whole number of at least 1. Raises at once: nothing can be built on a wrong one."""
    for name, count in numbers.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise UserError(f"{model}: {name} must be a whole number of at least 1, not {shown(count)}")


def check_widths(model: str, widths: Sequence[int], count: int | None = None) -> tuple[int, ...]:
    """`count` whole numbers of at least 1; None: at least one of them."""
    if not isinstance(widths, list | tuple) or not widths or (count is not None and len(widths) != count):
        wanted = "a list of channel counts" if count is None else f"a list of {count} channel counts"
        raise UserError(f"{model}: widths must be {wanted}, not {shown(widths)}")
    for width in widths:
        check_whole(model, widths=width)
    return tuple(widths)


def enlarged(shape: tuple[int, int, int], least: int) -> tuple[int, int]:
    """(height, width) of pictures whose shorter side has that many pixels at least, in their own shape."""
    grow = max(1.0, least / min(shape[1:]))
    return round(shape[1] * grow), round(shape[2] * grow)


def check_size(model: str, shape: tuple[int, int, int], least: int) -> None:
    """Pictures are at least `least` pixels a side."""
    if min(shape[1:]) < least:
        raise UserError(
            f"{model} needs pictures of at least {least}x{least} pixels; these have {shape[1]}x{shape[2]}: "
            "resize them, or take mlp"
        )


def drop_branches(branches: list[nn.Sequential], rate: float) -> None:
    """Ends each residual branch with stochastic depth; it has no state, so no key changes."""
    for branch, own in zip(branches, rising(rate, len(branches)), strict=True):
        branch.append(DropPath(own))
