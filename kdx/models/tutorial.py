"""The two networks of PyTorch's knowledge-distillation tutorial (Chariton 2023), teacher and student."""

from __future__ import annotations

from torch import nn

from kdx.models.layers import check_rates, check_size


def deep_nn(
    *, shape: tuple[int, int, int], classes: int, dropout: float, stochastic_depth: float | str
) -> nn.Module:
    """Four convolutions of 128, 64, 64 and 32 channels with two 2x2 max-pools, and linear layers of 512 and
    `classes`: 1,186,986 parameters of 3x32x32 and 10 classes. dropout in [0, 1), between the linear layers;
    the tutorial's .1.
    """
    return _network("deep_nn", shape, classes, ((128, 64), (64, 32)), 512, dropout, stochastic_depth)


def light_nn(
    *, shape: tuple[int, int, int], classes: int, dropout: float, stochastic_depth: float | str
) -> nn.Module:
    """Two convolutions of 16 channels with two 2x2 max-pools, and linear layers of 256 and `classes`: 267,738
    parameters of 3x32x32 and 10 classes. dropout: as of `deep_nn`.
    """
    return _network("light_nn", shape, classes, ((16,), (16,)), 256, dropout, stochastic_depth)


def _network(
    name: str,
    shape: tuple[int, int, int],
    classes: int,
    stages: tuple[tuple[int, ...], ...],
    hidden: int,
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module:
    """Stages of convolutions, each ended by a max-pool, with torch's own first weights."""
    check_rates(name, dropout=dropout, stochastic_depth=stochastic_depth, residual=False)
    check_size(name, shape, 4)
    channels, height, width = shape
    features = nn.Sequential()
    for stage in stages:
        for made in stage:
            features.extend([nn.Conv2d(channels, made, 3, padding=1), nn.ReLU()])
            channels = made
        features.append(nn.MaxPool2d(2))
    flat = channels * (height // 4) * (width // 4)
    net = nn.Sequential()
    net.add_module("features", features)
    net.add_module("flat", nn.Flatten())
    net.add_module(
        "head",
        nn.Sequential(nn.Linear(flat, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes)),
    )
    return net
