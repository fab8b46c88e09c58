"""The levels of a stored picture, 0 to 255, as numbers: the one place that divides by 255."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def as_float(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 -> floats in [0, 1], x / 255 correctly rounded: the one place where levels become numbers. What
    has another type holds no levels, and is returned as it is.
    """
    return x.to(dtype).div_(_most(x.device)) if x.dtype == torch.uint8 else x


@lru_cache(maxsize=8)
def _most(device: torch.device) -> Tensor:
    """255. A tensor, because CUDA would multiply by the reciprocal of a Python number, which rounds some
    levels another way.
    """
    return torch.full((), 255.0, device=device)
