"""Boxes as numbers: the places of a picture at which a detector answers, which box each of them is to find,
what boxes its numbers stand for, and how boxes that were found are held against others. Boxes are x1, y1, x2,
y2 in pixels, from the upper left corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from kdx.core.anchors import ONE
from kdx.core.math import full
from kdx.core.trees import moved

RADIUS = 1.5
"""Strides from the middle of a box within which places are to find it (centre sampling; Tian et al. 2020,
arXiv 2006.09214, section 3.2)."""
REACH = 8
"""Strides: a level finds the boxes whose sides lie at most so far from a place of it, and not within the
reach of the level before (64 pixels at a stride of 8; Tian et al. 2019, arXiv 1904.01355, section 3.2)."""
NEAR, FAR = 0.5, 0.4
"""IoU from which on an anchor is to find a box, and below which it is to find none; between them it learns
nothing (the same, section 4)."""
OVERLAP = 0.6
"""IoU from which on the less sure one of two boxes of a class is left out."""
CANDIDATES, LEAST_SURE = 300, 0.05
"""Of a picture so many pairs of place and class are looked at, those that are at least so sure."""


@dataclass(frozen=True)
class Places:
    """centre: (A, 2), x and y in pixels; stride, low, high: (A,), how far apart the places of their level
    lie, and from which to which distance of the farthest side they find boxes; sides: (A, 2), width and
    height of their anchors, in pixels."""

    centre: Tensor
    stride: Tensor
    low: Tensor
    high: Tensor
    sides: Tensor

    @property
    def anchors(self) -> Tensor:
        """(A, 4), a box around each place."""
        return torch.cat([self.centre - self.sides / 2, self.centre + self.sides / 2], 1)

    def to(self, device: torch.device) -> Places:
        return Places(*(moved(leaf, device) for leaf in vars(self).values()))


def grid_places(
    size: tuple[int, int], stride: int, levels: int, anchors: Sequence[tuple[float, float]] = ONE
) -> Places:
    """size: height and width of the pictures. The first level has a place in the middle of each square of
    `stride` pixels, row by row, the next one of each of twice as many, and so on; a square that reaches out
    of the picture counts. anchors: width and height in strides; of several each place stands there as often,
    one after the other.
    """
    centres, strides, lows, highs, sides = [], [], [], [], []
    for level in range(levels):
        apart = stride * 2**level
        down, across = ((torch.arange(-(-side // apart), dtype=torch.float32) + 0.5) * apart for side in size)
        y, x = torch.meshgrid(down, across, indexing="ij")
        centres.append(torch.stack([x.flatten(), y.flatten()], 1))
        strides.append(torch.full((x.numel(),), float(apart)))
        lows.append(torch.full_like(strides[-1], REACH * apart / 2 if level else 0.0))
        highs.append(torch.full_like(strides[-1], REACH * apart if level < levels - 1 else torch.inf))
        sides.append((torch.tensor(anchors) * apart).repeat(x.numel(), 1))
    several = [torch.cat(parts) for parts in (centres, strides, lows, highs)]
    centre, apart_by, low, high = (leaf.repeat_interleave(len(anchors), 0) for leaf in several)
    return Places(centre, apart_by, low, high, torch.cat(sides))


# which box a place is to find


def assigned_to_points(places: Places, boxes: Tensor, classes: Tensor) -> Tensor:
    """Of FCOS: the box that holds the place, near its middle and of a size that its level finds; of several
    the smallest. boxes (B, M, 4), classes (B, M), -1: none -> (B, A) number of the box, -1: none.
    """
    apart = side_distances(places, boxes)
    sides = apart.amax(3)
    middle = (boxes[..., :2] + boxes[..., 2:])[:, None] / 2
    near = (middle - places.centre[:, None]).abs().amax(3) < RADIUS * places.stride[:, None]
    there = (apart.amin(3) > 0) & near & (classes >= 0)[:, None]
    there &= (sides > places.low[:, None]) & (sides <= places.high[:, None])
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(2)
    area = (width * height)[:, None].masked_fill(~there, torch.inf)
    if not boxes.shape[1]:
        return torch.full(there.shape[:2], -1, device=boxes.device)
    least, found = area.min(2)
    return found.masked_fill(least == torch.inf, -1)


def assigned_to_anchors(places: Places, boxes: Tensor, classes: Tensor) -> Tensor:
    """Of RetinaNet: the box with which the anchor's IoU is largest, where it is NEAR, and of each box the
    anchors that are nearest to it; -1 none, -2: between NEAR and FAR. The same arguments.
    """
    batch, most = classes.shape
    if not most:
        return torch.full((batch, len(places.stride)), -1, device=boxes.device)
    iou = box_iou(boxes.flatten(0, 1), places.anchors).unflatten(0, (batch, most))
    iou = iou.masked_fill((classes < 0)[..., None], -1.0)
    best, found = iou.max(1)
    nearest = (iou == iou.amax(2, keepdim=True)) & (iou > 0)
    decided = torch.where(best >= NEAR, found, torch.where(best < FAR, -1, -2))
    return torch.where(nearest.any(1), found, decided)


def side_distances(places: Places, boxes: Tensor) -> Tensor:
    """(B, M, 4) -> (B, A, M, 4): from each place to the left, upper, right and lower side, in pixels; below 0
    where it lies outside."""
    point = places.centre[:, None]
    return torch.cat([point - boxes[:, None, :, :2], boxes[:, None, :, 2:] - point], 3)


# what numbers stand for


def boxes_of_distances(places: Places, numbers: Tensor) -> Tensor:
    """(B, A, 4) distances to the left, upper, right and lower side, in strides, below 0 where a place lies
    outside -> (B, A, 4) boxes"""
    apart = full(numbers) * places.stride[:, None]
    return torch.cat([places.centre - apart[..., :2], places.centre + apart[..., 2:]], 2)


def centreness(apart: Tensor) -> Tensor:
    """(..., 4) distances to the left, upper, right and lower side, above 0 -> (...) in (0, 1], 1 in the
    middle of a box (Tian et al. 2019, equation 3)."""
    across, down = apart[..., 0::2], apart[..., 1::2]
    return (across.amin(-1) / across.amax(-1) * down.amin(-1) / down.amax(-1)).sqrt()


def surest_boxes(boxes: Tensor, probs: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of one picture the surest boxes, each class without those that overlap by OVERLAP or more with a surer
    one. boxes (A, 4), probs (A, K) -> (most, 4), (most,) how sure, falling, 0 behind the last, (most,) class,
    -1 behind the last.
    """
    count = min(CANDIDATES, probs.numel())
    sure, at = probs.flatten().topk(count)
    sure, at = sure[sure >= LEAST_SURE], at[sure >= LEAST_SURE]
    of, kind = boxes[at // probs.shape[1]], at % probs.shape[1]
    kept = batched_nms(of, sure, kind, OVERLAP)[:most]
    found, how = boxes.new_zeros(most, 4), probs.new_zeros(most)
    classes = torch.full((most,), -1, device=boxes.device)
    found[: len(kept)], how[: len(kept)], classes[: len(kept)] = of[kept], sure[kept], kind[kept]
    return found, how, classes


# boxes against boxes


def f1_of_boxes(
    said: Sequence[tuple[Tensor, Tensor]], right: Sequence[tuple[Tensor, Tensor]], overlap: float = 0.5
) -> Tensor:
    """Of each picture F1 = 2 hits / (boxes said + right ones), 1 where both are none. A box said is a hit
    where it overlaps, by IoU `overlap` or more, with one of its class that no box before it has taken, the
    one with which it overlaps most. said: (boxes (n, 4), classes (n,)), the surest first; -> (N,) float64.
    """
    scores = []
    for (boxes, classes), (true, kinds) in zip(said, right, strict=True):
        total = len(boxes) + len(true)
        if not len(boxes) or not len(true):
            scores.append(float(total == 0))
            continue
        iou = box_iou(boxes.float(), true.float())
        iou = iou.masked_fill(classes[:, None] != kinds[None], -1.0)
        hits = 0
        for row in range(len(boxes)):
            best, at = iou[row].max(0)
            if best >= overlap:
                hits += 1
                iou[:, at] = -1.0
        scores.append(2 * hits / total)
    return torch.tensor(scores, dtype=torch.float64)
