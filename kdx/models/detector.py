"""Detectors that answer at every place of a picture: a small residual net, a pyramid of its maps, and one
head for all of these. Their answers are those of `kdx.tasks.detection.Detection`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FeaturePyramidNetwork

from kdx.core.anchors import ANCHOR_SIDE, NINE, ONE
from kdx.core.checks import choice
from kdx.core.errors import UserError
from kdx.core.several import BOXED
from kdx.core.trees import moved
from kdx.models import reads
from kdx.models.layers import check_rates, check_whole, check_widths, he, rising
from kdx.models.resnet import Block

PRIOR = 0.01
"""What every class has at every place before training (Lin et al. 2017, arXiv 1708.02002, section 4.1)."""
_KINDS: Mapping[str, Sequence[tuple[float, float]]] = {"fcos": (), "retina": ONE, "retina9": NINE}
"""Anchors of each place."""
_LARGEST = math.log(1000 / 16)
"""Logarithm of how much larger than its anchor a box is at most, as torchvision has it."""


class Tower(nn.Sequential):
    """3x3 convolutions of one width, each with group norm (32 groups at most, of 4 channels or more) and
    ReLU."""

    def __init__(self, width: int, convolutions: int, dropout: float):
        layers: list[nn.Module] = []
        for _ in range(convolutions):
            groups = math.gcd(32, max(1, width // 4))
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(groups, width), nn.ReLU()]
        super().__init__(*layers, nn.Dropout2d(dropout))


class Head(nn.Module):
    """The same for the maps of all levels: a tower for classes, one for boxes. anchors: width and height of
    those at each place, in strides; none: FCOS, which says how near the middle of a box a place lies."""

    def __init__(
        self,
        width: int,
        convolutions: int,
        classes: int,
        levels: int,
        dropout: float,
        anchors: Sequence[tuple[float, float]],
    ):
        super().__init__()
        self.anchors, each = anchors, max(1, len(anchors))
        self.class_tower = Tower(width, convolutions, dropout)
        self.box_tower = Tower(width, convolutions, 0.0)
        self.scores = nn.Conv2d(width, classes * each, 3, padding=1)
        self.boxes = nn.Conv2d(width, 4 * each, 3, padding=1)
        self.centre = None if anchors else nn.Conv2d(width, 1, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(levels))
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.normal_(part.weight, std=0.01)
                nn.init.zeros_(part.bias)
        for tower in (self.class_tower, self.box_tower):
            tower.apply(lambda part: he(part) if isinstance(part, nn.Conv2d) else None)
        nn.init.constant_(self.scores.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        scores, boxes, centre = [], [], []
        each = max(1, len(self.anchors))
        for level, seen in enumerate(maps):
            scores.append(by_place(self.scores(self.class_tower(seen)), each))
            inside = self.box_tower(seen)
            numbers = by_place(self.boxes(inside), each)
            if self.centre is None:
                anchors = moved(torch.tensor(self.anchors), numbers.device)
                boxes.append(sides_of_deltas(numbers, anchors.to(numbers)))
            else:
                boxes.append(F.softplus(numbers * self.scale[level]) * ANCHOR_SIDE / 2)
                centre.append(by_place(self.centre(inside))[..., 0])
        found = {"scores": torch.cat(scores, 1), "boxes": torch.cat(boxes, 1)}
        return found if self.centre is None else {**found, "centre": torch.cat(centre, 1)}


def by_place(numbers: Tensor, each: int = 1) -> Tensor:
    """(B, each * K, H, W) -> (B, H * W * each, K), those of a place one after the other."""
    return numbers.flatten(2).transpose(1, 2).unflatten(2, (each, -1)).flatten(1, 2)


def sides_of_deltas(deltas: Tensor, anchors: Tensor) -> Tensor:
    """(B, A * n, 4): how far the middle of a box is shifted from that of its anchor, in its sides, and the
    logarithms of how much wider and higher it is; anchors (n, 2), width and height in strides -> (B, A * n,
    4) distances from the place to the left, upper, right and lower side, in strides (Girshick et al. 2014,
    arXiv 1311.2524, appendix C)."""
    sides = anchors.repeat(deltas.shape[1] // len(anchors), 1)
    shift = deltas[..., :2] * sides
    half = deltas[..., 2:].clamp(max=_LARGEST).exp() * (sides / 2)
    return torch.cat([half - shift, half + shift], -1)


class Detector(nn.Module):
    """Stages that halve the map, one after the other; the last `levels` of them make the pyramid."""

    def __init__(self, stages: Sequence[nn.Module], levels: int, pyramid: nn.Module, head: nn.Module):
        super().__init__()
        self.names = [f"stage{number}" for number, _ in enumerate(stages, 1)]
        for name, stage in zip(self.names, stages, strict=True):
            self.add_module(name, stage)
        self.levels, self.pyramid, self.head = levels, pyramid, head

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = OrderedDict()
        for name in self.names:
            x = self.get_submodule(name)(x)
            maps[name] = x
        seen = OrderedDict(list(maps.items())[-self.levels :])
        return self.head(list(self.pyramid(seen).values()))


@reads(BOXED)
def detector(
    *,
    shape: tuple[int, int, int],
    outputs: Mapping[str, int],
    kind: str,
    widths: Sequence[int],
    pyramid: int,
    convolutions: int,
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module:
    """FCOS (Tian et al. 2019, arXiv 1904.01355) or RetinaNet (Lin et al. 2017, arXiv 1708.02002) on a small
    residual net. shape: (C, H, W). outputs: classes, stride of the first level, levels: each with places
    twice as far apart.

    kind: fcos (distances from each place, and how near the middle it lies), retina (one square anchor at each
    place) or retina9 (the paper's nine, of three sizes and three ratios of sides). widths: channels of the
    stages, of which each halves the map; where there are more stages, the last one again. pyramid: channels
    of the pyramid and of the head's towers of `convolutions` layers. dropout before the class scores.
    Deviations: distances by softplus, where the papers have exp or ReLU; no level beyond the stages.
    """
    choice("detector: kind", kind, tuple(_KINDS))
    widths = check_widths("detector", widths)
    check_whole("detector", pyramid=pyramid, convolutions=convolutions)
    depth = check_rates("detector", dropout=dropout, stochastic_depth=stochastic_depth)
    classes, stride, levels = (outputs[name] for name in ("classes", "stride", "levels"))
    below = stride.bit_length() - 1
    if 2**below != stride or not below:
        raise UserError(
            f"a detector of kdx halves its maps: set dataset.stride to 2, 4, 8 or 16, not {stride}"
        )
    count = below + levels - 1
    if min(shape[1:]) < 2 * stride:
        raise UserError(
            f"a detector has two places a side on its first level at least, and pictures of "
            f"{shape[1]}x{shape[2]} have fewer that are dataset.stride={stride} apart: set a smaller stride"
        )
    wide = [*widths, *[widths[-1]] * count][:count]
    drops = rising(depth, max(count - 1, 1))
    stem = [nn.Conv2d(shape[0], wide[0], 3, 1, 1, bias=False), nn.BatchNorm2d(wide[0]), nn.ReLU()]
    stages: list[nn.Module] = [nn.Sequential(*stem, nn.MaxPool2d(2, ceil_mode=True))]
    stages += [Block(before, width, 2, next(drops)) for before, width in pairwise(wide)]
    for stage in stages:
        he(stage)
    return Detector(
        stages,
        levels,
        FeaturePyramidNetwork(wide[-levels:], pyramid),
        Head(pyramid, convolutions, classes, levels, dropout, _KINDS[kind]),
    )
