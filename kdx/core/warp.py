"""Where what a picture shows has moved to in a view of it. Imports torch only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kdx.core.trees import moved


@dataclass(frozen=True)
class Warp:
    """What lies at (x, y) of a row lies in its view at scale * (x, y) + shift; pixels, from the upper left
    corner. scale, shift: (B, 2), of x and y; a scale below 0 mirrors. size: (B, 2), width and height of the
    view. mirrors: whether no row is moved otherwise than as its mirror image, or not at all.
    """

    scale: Tensor
    shift: Tensor
    size: Tensor
    mirrors: bool

    def then(self, later: Warp) -> Warp:
        """Of a view of the view."""
        return Warp(
            later.scale * self.scale,
            later.scale * self.shift + later.shift,
            later.size,
            self.mirrors and later.mirrors,
        )

    def where(self, rows: Tensor) -> Warp:
        """Of the others, (B,) bool, nothing moves."""
        there = rows[:, None]
        return Warp(
            torch.where(there, self.scale, 1.0),
            torch.where(there, self.shift, 0.0),
            self.size,
            self.mirrors,
        )

    def to(self, device: torch.device | str) -> Warp:
        return Warp(self.scale.to(device), self.shift.to(device), self.size.to(device), self.mirrors)

    @property
    def mirrored(self) -> Tensor:
        """(B,) bool: left and right have changed places."""
        return self.scale[:, 0] < 0

    def boxes(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """(B, M, 4) x1, y1, x2, y2 -> where they lie, cut off at the border, and (B, M) bool: whether the
        middle is still inside, by which a box counts as seen (Liu et al. 2016, SSD, arXiv 1512.02325, section
        2.2)."""
        scale, shift = self.scale[:, None], self.shift[:, None]
        first, last = boxes[..., :2] * scale + shift, boxes[..., 2:] * scale + shift
        low, high = torch.minimum(first, last), torch.maximum(first, last)
        size = self.size[:, None]
        middle = (low + high) / 2
        seen = ((middle >= 0) & (middle < size)).all(2)
        cut = [torch.minimum(corner.clamp_min(0), size) for corner in (low, high)]
        return torch.cat(cut, 2), seen


def of_mirrors(flipped: Tensor, size: tuple[int, int]) -> Warp:
    """(B,) bool the rows that are mirrored; size: height and width."""
    whole = torch.zeros(4, len(flipped), device=flipped.device)
    whole[2], whole[3] = size[1], size[0]
    return of_windows(whole, flipped, size, mirrors=True)


def of_windows(window: Tensor, flipped: Tensor, size: tuple[int, int], *, mirrors: bool = False) -> Warp:
    """A part of each row, made as large as the view, and mirrored where `flipped` (B,) says so. window:
    (4, B) left, top, width and height; size: height and width of the view."""
    sides = moved(torch.tensor([size[1], size[0]], dtype=torch.float32), flipped.device)
    scale = sides / window[2:].T
    shift = -window[:2].T * scale
    turned = torch.stack([flipped, torch.zeros_like(flipped)], 1)
    return Warp(
        torch.where(turned, -scale, scale),
        torch.where(turned, sides - shift, shift),
        sides.expand(len(flipped), 2),
        mirrors,
    )
