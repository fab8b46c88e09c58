"""One hidden layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from kdx.models import reads
from kdx.models.layers import check_rates, check_whole


@reads("pictures", "table")
def mlp(
    *, shape: Sequence[int], outputs: int, hidden: int, dropout: float, stochastic_depth: float | str
) -> nn.Module:
    """Flat numbers of a row, `hidden` ReLU units with dropout, `outputs` numbers."""
    check_whole("mlp", hidden=hidden)
    check_rates("mlp", dropout=dropout, stochastic_depth=stochastic_depth, residual=False)
    net = nn.Sequential()
    net.add_module("stage1", nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), hidden), nn.ReLU()))
    net.add_module("head", nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, outputs)))
    return net
