"""The forms in which boxes are answered and known, see `kdx.tasks.detection.Detection`, and what boxes dense
answers name.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from kdx.core.anchors import NINE
from kdx.core.answers import Answers
from kdx.core.errors import UserError
from kdx.core.math import full
from kdx.core.trees import leaves, moved
from kdx.core.warp import Warp
from kdx.tasks import boxes as geometry

SCORES, BOXES, CENTRE, CLASSES, ROW_LOSS = "scores", "boxes", "centre", "classes", "loss"
MOST_SAID = 100
"""Boxes of a picture that are measured at most, as COCO has it."""


def several(value: Answers) -> Mapping[str, Tensor]:
    if isinstance(value, Mapping):
        return value
    raise UserError(
        "boxes are several arrays by name (see docs/detection.md); given one: choose a detector, such as "
        "fcos_tiny"
    )


def dense(answers: Answers) -> Mapping[str, Tensor]:
    given = several(answers)
    if SCORES in given and BOXES in given and CLASSES not in given:
        return given
    raise UserError(
        f"a detector answers with {SCORES} and {BOXES} at every place of a picture; given: "
        f"{', '.join(leaves(given))}"
    )


class Grid:
    """The places at which detectors answer to pictures of one size: one answer at each, or nine. size:
    height and width; stride, levels: see `kdx.tasks.boxes.grid_places`."""

    def __init__(self, size: tuple[int, int], stride: int, levels: int):
        self.size, self.stride, self.levels = size, stride, levels
        self.places = geometry.grid_places(size, stride, levels)

    @cached_property
    def nine(self) -> geometry.Places:
        return geometry.grid_places(self.size, self.stride, self.levels, NINE)

    def places_of(self, answers: Mapping[str, Tensor]) -> geometry.Places:
        """Those of these answers, on their device."""
        count, here = answers[SCORES].shape[1], self.places
        if count == len(NINE) * len(here.stride):
            here = self.nine
        if count != len(here.stride):
            raise UserError(
                f"pictures of {self.size[0]}x{self.size[1]} have {len(here.stride)} places by dataset.stride="
                f"{self.stride} dataset.levels={self.levels}, and these answers are to {count}: choose a "
                "detector that answers at them"
            )
        return here.to(answers[SCORES].device)

    @property
    def symmetric(self) -> bool:
        """Whether its places lie in a picture as they do in its mirror image."""
        return self.size[1] % (self.stride * 2 ** (self.levels - 1)) == 0

    def mirrored(self, answers: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """Dense answers to pictures -> those to their mirror images, where `rows` (B,) bool says so. Of a
        symmetric grid."""
        count = answers[SCORES].shape[1]
        across = self._across(count // len(self.places.stride)).to(rows.device)
        found = {}
        for name, leaf in answers.items():
            there = leaf.index_select(1, across)
            there = there[..., [2, 1, 0, 3]] if name == BOXES else there
            found[name] = torch.where(rows.view(-1, *[1] * (leaf.dim() - 1)), there, leaf)
        return found

    def _across(self, anchors: int) -> Tensor:
        """(A,) int64: the place that lies where each one does in the mirror image."""
        found, first = [], 0
        for level in range(self.levels):
            high, wide = (-(-side // (self.stride * 2**level)) for side in self.size)
            numbers = torch.arange(high * wide * anchors).view(high, wide, anchors)
            found.append(first + numbers.flip(1).flatten())
            first += high * wide * anchors
        return torch.cat(found)

    def decoded(self, answers: Mapping[str, Tensor]) -> Tensor:
        """(B, A, 4) boxes in pixels, whatever they reach out of."""
        return geometry.boxes_of_distances(self.places_of(answers), answers[BOXES])

    def named(self, answers: Answers) -> Mapping[str, Tensor]:
        """The boxes that answers name, at most MOST_SAID a row, the surest first; inside of the picture."""
        given = several(answers)
        if CLASSES in given:
            return given
        boxes = self.decoded(given).detach()
        height, width = self.size
        limit = moved(torch.tensor([width, height, width, height]), boxes.device)
        boxes = torch.minimum(boxes.clamp_min(0), limit)
        rows = [
            geometry.surest_boxes(*row, MOST_SAID)
            for row in zip(boxes, probabilities(given).detach(), strict=True)
        ]
        found = [torch.stack(parts) for parts in zip(*rows, strict=True)]
        return dict(zip((BOXES, SCORES, CLASSES), found, strict=True))


def probabilities(answers: Mapping[str, Tensor]) -> Tensor:
    """(B, A, K); of FCOS the geometric mean of score and nearness to the middle, as its second paper has it
    (arXiv 2006.09214)."""
    probs = full(answers[SCORES]).sigmoid()
    return (probs * full(answers[CENTRE]).sigmoid()[..., None]).sqrt() if CENTRE in answers else probs


def moved_boxes(named: Mapping[str, Tensor], warp: Warp) -> dict[str, Tensor]:
    """Boxes that are named, or the truth, as they lie in a view; of one that is lost class -1 and score 0.
    Of what nobody knows, nan, nothing is known there."""
    where = warp.to(named[BOXES].device)
    boxes, seen = where.boxes(named[BOXES])
    gone = ~seen & ~named[BOXES].isnan().any(2)
    found = {**named, BOXES: boxes, CLASSES: named[CLASSES].masked_fill(gone, -1)}
    if SCORES in named:
        found[SCORES] = named[SCORES].masked_fill(gone, 0.0)
    return found


def sure_boxes(named: Mapping[str, Tensor], sure: float) -> list[tuple[Tensor, Tensor]]:
    """Of each row the boxes and classes that are named with such a confidence; of the truth all."""
    kept = named[CLASSES] >= 0
    if SCORES in named:
        kept = kept & (named[SCORES] >= sure)
    return [
        (box[there], kind[there]) for box, kind, there in zip(named[BOXES], named[CLASSES], kept, strict=True)
    ]
