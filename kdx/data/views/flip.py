"""The mirror image, without a crop."""

from __future__ import annotations

import torch
from torch import Tensor

from kdx.core.warp import Warp, of_mirrors
from kdx.data.views.augment import check_number
from kdx.data.views.chain import Step
from kdx.data.views.draws import Draws


class Flip(Step):
    """The mirror image, left for right, with probability `flip`."""

    moves_only = True
    tells_warp = True

    def __init__(self, *, flip: float):
        check_number("flip.flip", flip, 0, 1)
        self.flip = flip

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        return torch.where(self._mirrored(draws, op).view(-1, 1, 1, 1), x.flip(3), x)

    def _mirrored(self, draws: Draws, op: str) -> Tensor:
        return draws.uniform(op, 1)[:, 0] < self.flip

    def warp(self, draws: Draws, op: str, size: tuple[int, int]) -> Warp:
        return of_mirrors(self._mirrored(draws, op), size)
