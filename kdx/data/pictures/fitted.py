"""Pictures of another shape made those of a data set, block by block, as they are asked for."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from kdx.core.errors import UserError
from kdx.data.stored import LazyRows, after, taken


class FittedPictures(LazyRows):
    """(N, C, H, W) uint8 of pictures of another size, or of grey ones among coloured, or the other way round.

    A size is changed by bilinear interpolation with antialiasing; a colour becomes grey by ITU-R BT.601's
    weights, and grey stands in all channels. shape: (C, H, W). Raises UserError where the channels are
    neither 1 nor 3, and differ.
    """

    dtype = np.dtype(np.uint8)
    cheap = False

    def __init__(self, pictures: Any, shape: tuple[int, int, int]):
        self._pictures, self._shape = pictures, tuple(shape)
        if (had := pictures.shape[1]) != shape[0] and {had, shape[0]} != {1, 3}:
            raise UserError(
                f"pictures of {had} channels cannot become those of {shape[0]}: only grey (1) and colours "
                "(3) are made each other; choose another pool, or save its pictures so"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._pictures), *self._shape)

    def read(self, rows: np.ndarray) -> np.ndarray:
        import torch
        from torchvision.transforms.v2 import functional

        found = torch.from_numpy(np.ascontiguousarray(self._pictures[rows]))
        if found.shape[1] == 3 and self._shape[0] == 1:
            found = functional.rgb_to_grayscale(found)
        elif found.shape[1] == 1 and self._shape[0] == 3:
            found = found.expand(-1, 3, -1, -1)
        if found.shape[2:] != self._shape[1:] and len(found):
            found = functional.resize(found, list(self._shape[1:]), antialias=True)
        return found.contiguous().numpy()

    def take(self, rows: np.ndarray) -> Self:
        return type(self)(taken(self._pictures, rows), self._shape)

    def and_then(self, others: Self) -> Self:
        return type(self)(after(self._pictures, others._pictures), self._shape)


def in_shape(pictures: Any, shape: tuple[int, int, int]) -> Any:
    """Pictures (N, c, h, w) uint8 as such of `shape`; themselves, where they have it."""
    return pictures if tuple(pictures.shape[1:]) == tuple(shape) else FittedPictures(pictures, shape)
