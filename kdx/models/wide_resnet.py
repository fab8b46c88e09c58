"""Wide residual nets for CIFAR-sized pictures."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdx.core.errors import UserError
from kdx.models.layers import DropPath, check_rates, check_size, check_whole, he, pooled_head, rising


class WideBlock(nn.Module):
    """Norm and ReLU before each 3x3 convolution, dropout between the two; a shortcut that changes shape
    starts after the first ReLU.
    """

    def __init__(self, inside: int, out: int, stride: int, dropout: float, drop: float):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.drop = DropPath(drop)
        self.shortcut = (
            None if stride == 1 and inside == out else nn.Conv2d(inside, out, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x))
        branch = self.conv2(self.dropout(F.relu(self.norm2(self.conv1(active)))))
        return self.drop(branch) + (x if self.shortcut is None else self.shortcut(active))


def wide_resnet(
    *,
    shape: tuple[int, int, int],
    classes: int,
    depth: int,
    widen: int,
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module:
    """Zagoruyko and Komodakis 2016 (arXiv 1605.07146). depth: 6n + 4 layers. widen: factor on 16, 32, 64
    channels.

    dropout acts inside the blocks, as in the paper. The last two stages halve the map.
    """
    check_whole("wide_resnet", depth=depth, widen=widen)
    if depth < 10 or (depth - 4) % 6:
        raise UserError(f"wide_resnet: depth must be 6n + 4 (10, 16, 28, 40), not {depth}")
    stochastic_depth = check_rates("wide_resnet", dropout=dropout, stochastic_depth=stochastic_depth)
    check_size("wide_resnet", shape, 4)
    blocks = (depth - 4) // 6
    drops = rising(stochastic_depth, 3 * blocks)
    widths = (16, 16 * widen, 32 * widen, 64 * widen)
    net = nn.Sequential()
    net.add_module("stem", nn.Conv2d(shape[0], widths[0], 3, 1, 1, bias=False))
    for i in range(3):
        inside, out, stride = widths[i], widths[i + 1], 1 if i == 0 else 2
        first = WideBlock(inside, out, stride, dropout, next(drops))
        net.add_module(
            f"stage{i + 1}",
            nn.Sequential(first, *(WideBlock(out, out, 1, dropout, next(drops)) for _ in range(blocks - 1))),
        )
    net.add_module("norm", nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU()))
    net.add_module("head", pooled_head(widths[-1], classes, 0.0))
    he(net)
    return net
