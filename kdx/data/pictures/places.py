"""Where what a square of a picture shows lies in the file that it was made from."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kdx.core.warp import Warp
from kdx.data.pictures.square import Square


def warp_to_files(sizes: Sequence[tuple[int, int]], square: Square) -> Warp:
    """sizes: width and height of each picture as it is shown."""
    there = torch.tensor(sizes, dtype=torch.float64)
    inner = torch.tensor([square.inner(size) for size in sizes], dtype=torch.float64)
    scale = there / inner
    before = torch.div(square.size - inner, 2, rounding_mode="floor")
    return Warp(scale.float(), (-before * scale).float(), there.float(), mirrors=False)
