"""Heads at layers of a network before its last: exits, which answer with what the network knows so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdx.core.errors import WrongStudent
from kdx.core.types import Inputs
from kdx.models.branches import executed
from kdx.models.modes import evaluating
from kdx.models.pairs import Layer, Side, as_map, asked_names, fitted_to
from kdx.models.tap import penultimate

_KEY = "loss.heads_at"
"""The setting that names the layers, for sentences."""
_MOST = 3
"""Heads on a network that has no maps of several sizes."""


@dataclass(frozen=True)
class Exit:
    """feature: (B, D), as wide as what the network's last linear layer sees. logits: (B, C)."""

    feature: Tensor
    logits: Tensor


class Exits(nn.Module):
    """Heads at some layers of a network, by taps on its own forward pass: no forward is touched.

    A head makes of its layer's feature one as the network's last linear layer sees, D wide, and a linear
    layer answers by it. at: names of layers, or "auto": the last layer at each size of map but the deepest
    (`kdx.models.pairs.deepest_layers`), and of networks without several sizes at most three of their
    `repeated` layers, evenly. The bottleneck averages a map down to the deepest one's size, and is a
    convolution of 3x3, ReLU, a convolution of 1x1 and the mean over the map; of dense features both are of
    1x1. Deviations from Zhang et al. 2019: theirs halves maps by convolutions, with batch normalisation,
    whose statistics a head of one row or a batch in parts could not have.
    """

    def __init__(self, network: nn.Module, example: Inputs, *, at: str | Sequence[str], classes: int):
        """example: one made-up row. Raises UserError where there is no layer for a head."""
        super().__init__()
        side = Side(network, example, "student", _KEY)
        self.taps = side.named(asked_names("student", at, _KEY) or layers_before_the_last(side, example))
        self.last = penultimate(network)
        like = next(network.parameters(), torch.zeros(()))
        with torch.no_grad(), evaluating(network):
            network(fitted_to(example, like))
            width = _pooled(self.last.take()).shape[1]
            maps = [as_map(tap.take()) for tap in self.taps]
        size = side.stages[-1].size if side.stages else (1, 1)
        with torch.random.fork_rng(devices=[]):  # the student's own noise stays what it is without heads
            self.bottlenecks = nn.ModuleList(_bottleneck(found, width, size) for found in maps)
            self.heads = nn.ModuleList(nn.Linear(width, classes) for _ in maps)
        self.to(like)

    def forward(self) -> tuple[list[Exit], Tensor]:
        """(what each head says, (B, D) the network's last feature without gradient), of the forward pass that
        it has just made. Without one since the last call it is a RuntimeError.
        """
        deepest = _pooled(self.last.take()).detach()
        found = []
        for tap, bottleneck, head in zip(self.taps, self.bottlenecks, self.heads, strict=True):
            feature = bottleneck(as_map(tap.take()))
            found.append(Exit(feature, head(feature)))
        return found, deepest


def _pooled(feature: Tensor) -> Tensor:
    """(B, ...) -> (B, D), the mean over a map or over tokens"""
    return as_map(feature).mean((2, 3))


def _bottleneck(feature: Tensor, width: int, size: tuple[int, int]) -> nn.Module:
    """(B, C, H, W) -> (B, width). feature: of one row; size: of the deepest map."""
    channels, (height, wide) = feature.shape[1], feature.shape[2:]
    small = (min(height, size[0]), min(wide, size[1]))
    kernel = 1 if small == (1, 1) else 3
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(small),
        nn.Conv2d(channels, width, kernel, padding=kernel // 2),
        nn.ReLU(),
        nn.Conv2d(width, width, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def layers_before_the_last(side: Side, example: Inputs) -> list[str]:
    """The layers that have a head unless others are named. Raises UserError where there are none."""
    found = side.stages[:-1] or repeated(side, example)
    if not found:
        raise WrongStudent(
            "loss.teacher=deepest sets heads on layers before the last, and this student has one hidden "
            "layer or none: choose a deeper one, or set loss.teacher=snapshot"
        )
    return [layer.name for layer in found]


def repeated(side: Side, example: Inputs) -> list[Layer]:
    """Of the layers that stand beside others of their class, as the blocks of an encoder do, those with the
    most parameters together, without the last, at most three and evenly; without layers after which nothing
    is computed but the answer.
    """
    order = executed(side.network, example)
    beside: dict[tuple[str, type], list[Layer]] = {}
    for layer in side.layers:
        if any(True for _ in layer.module.parameters()):
            beside.setdefault((layer.name.rpartition(".")[0], type(layer.module)), []).append(layer)
    last = next(reversed([m for m in side.network.modules() if isinstance(m, nn.Linear)]), None)
    names = {module: name for name, module in side.network.named_modules()}
    ends = [order[names[m]][0] for m in names if m is not last and m._parameters and names[m] in order]
    done = max(ends, default=0)
    groups = [[one for one in group[:-1] if order[names[one.module]][1] < done] for group in beside.values()]
    if not groups:
        return []
    group = max(groups, key=lambda found: sum(p.numel() for one in found for p in one.module.parameters()))
    count = min(_MOST, len(group))
    return [group[(place + 1) * len(group) // count - 1] for place in range(count)]
