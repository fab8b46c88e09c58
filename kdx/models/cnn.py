"""Plain convolutional nets for small pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from kdx.models.layers import check_rates, check_size, check_whole, check_widths


def cnn(
    *,
    shape: tuple[int, int, int],
    classes: int,
    widths: Sequence[int],
    hidden: int,
    batch_norm: bool,
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module:
    """Each width: 3x3 convolution, batch norm (if asked for), ReLU, 2x2 max-pool; then one hidden layer with
    dropout before the last.

    Maps of more than 8x8 are averaged down to at most that, so the hidden layer does not grow with the
    picture.
    """
    widths = check_widths("cnn", widths)
    check_whole("cnn", hidden=hidden)
    check_rates("cnn", dropout=dropout, stochastic_depth=stochastic_depth, residual=False)
    check_size("cnn", shape, 2 ** len(widths))
    channels, height, width = shape
    net = nn.Sequential()
    for i, out in enumerate(widths):
        stage = [nn.Conv2d(channels, out, 3, padding=1, bias=not batch_norm)]
        stage += [nn.BatchNorm2d(out)] if batch_norm else []
        net.add_module(f"stage{i + 1}", nn.Sequential(*stage, nn.ReLU(), nn.MaxPool2d(2)))
        channels, height, width = out, height // 2, width // 2
    shrink = math.ceil(max(height, width) / 8)
    if shrink > 1:
        # ceil_mode keeps a ragged edge instead of dropping it, and a side shorter than the window at one.
        net.add_module("shrink", nn.AvgPool2d(shrink, ceil_mode=True))
        height, width = math.ceil(height / shrink), math.ceil(width / shrink)
    net.add_module(
        "head",
        nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * height * width, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        ),
    )
    return net
