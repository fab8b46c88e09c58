"""One hidden layer."""

from __future__ import annotations

import math

from torch import nn

from kdx.models.layers import check_rates, check_whole


def mlp(
    *, shape: tuple[int, int, int], classes: int, hidden: int, dropout: float, stochastic_depth: float | str
) -> nn.Module:
    """Flat pixels, `hidden` ReLU units with dropout, logits."""
    check_whole("mlp", hidden=hidden)
    check_rates("mlp", dropout=dropout, stochastic_depth=stochastic_depth, residual=False)
    net = nn.Sequential()
    net.add_module("stage1", nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), hidden), nn.ReLU()))
    net.add_module("head", nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, classes)))
    return net
