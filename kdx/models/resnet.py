"""Residual nets for CIFAR-sized pictures, in the variants that distillation tables use."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from kdx.core.errors import UserError
from kdx.models.layers import (
    DropPath,
    check_rates,
    check_size,
    check_whole,
    check_widths,
    he,
    pooled_head,
    rising,
)


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, inside: int, out: int, stride: int, drop: float):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.drop = DropPath(drop)
        same = stride == 1 and inside == out
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        branch = F.relu(self.norm1(self.conv1(x)))
        branch = self.drop(self.norm2(self.conv2(branch)))
        return F.relu(branch + self.shortcut(x))


def resnet(
    *,
    shape: tuple[int, int, int],
    classes: int,
    depth: int,
    widths: Sequence[int],
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module:
    """He et al. 2015 (arXiv 1512.03385), section 4.2, with convolutions for the shortcuts that change shape.

    depth: 6n + 2 layers. widths: channels of the stem and the three stages; (16, 16, 32, 64) is the paper's,
    (32, 64, 128, 256) the "x4" of the tables. dropout acts on the pooled features. The last two stages halve
    the map.
    """
    check_whole("resnet", depth=depth)
    if depth < 8 or (depth - 2) % 6:
        raise UserError(f"resnet: depth must be 6n + 2 (8, 14, 20, 32, 56, 110), not {depth}")
    widths = check_widths("resnet", widths, 4)
    stochastic_depth = check_rates("resnet", dropout=dropout, stochastic_depth=stochastic_depth)
    check_size("resnet", shape, 4)
    blocks = (depth - 2) // 6
    drops = rising(stochastic_depth, 3 * blocks)
    net = nn.Sequential()
    net.add_module(
        "stem",
        nn.Sequential(
            nn.Conv2d(shape[0], widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        ),
    )
    for i in range(3):
        inside, out, stride = widths[i], widths[i + 1], 1 if i == 0 else 2
        first = Block(inside, out, stride, next(drops))
        net.add_module(
            f"stage{i + 1}",
            nn.Sequential(first, *(Block(out, out, 1, next(drops)) for _ in range(blocks - 1))),
        )
    net.add_module("head", pooled_head(widths[-1], classes, dropout))
    he(net)
    return net
