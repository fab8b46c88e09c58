"""VGG nets with batch norm for CIFAR-sized pictures."""

from __future__ import annotations

from torch import nn

from kdx.core.checks import shown
from kdx.core.errors import UserError
from kdx.models.layers import check_rates, check_size, he, pooled_head

_STAGES = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3)}
"""Convolutions in each of the five stages, by depth."""
WIDTHS = (64, 128, 256, 512, 512)


def vgg(
    *, shape: tuple[int, int, int], classes: int, depth: int, dropout: float, stochastic_depth: float | str
) -> nn.Module:
    """Simonyan and Zisserman 2014 (arXiv 1409.1556) with batch norm and one linear layer on the mean of the
    last map.

    depth: 8, 11, 13 or 16. The first three stages end in a 2x2 max-pool, the fourth too from 64 pixels on.
    dropout acts on the pooled features.
    """
    if not isinstance(depth, int) or depth not in _STAGES:
        raise UserError(f"vgg: depth must be one of {', '.join(map(str, _STAGES))}, not {shown(depth)}")
    check_rates("vgg", dropout=dropout, stochastic_depth=stochastic_depth, residual=False)
    check_size("vgg", shape, 8)
    pools = 4 if min(shape[1:]) >= 64 else 3
    channels = shape[0]
    net = nn.Sequential()
    for i, (count, width) in enumerate(zip(_STAGES[depth], WIDTHS, strict=True)):
        stage = nn.Sequential()
        for _ in range(count):
            stage.extend([nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()])
            channels = width
        if i < pools:
            stage.append(nn.MaxPool2d(2))
        net.add_module(f"stage{i + 1}", stage)
    net.add_module("head", pooled_head(channels, classes, dropout))
    he(net)
    return net
