"""The boxes around a place of a picture that a detector begins from: one square, or RetinaNet's nine."""

from __future__ import annotations

ANCHOR_SIDE = 4.0
"""Strides that the side of a square anchor has (32 pixels at a stride of 8; Lin et al. 2017, arXiv
1708.02002)."""
ONE = ((ANCHOR_SIDE, ANCHOR_SIDE),)
NINE = tuple(
    (ANCHOR_SIDE * 2 ** (size / 3) / ratio**0.5, ANCHOR_SIDE * 2 ** (size / 3) * ratio**0.5)
    for ratio in (0.5, 1.0, 2.0)
    for size in range(3)
)
"""Width and height in strides: three ratios of height to width, of each three sizes (the same, section 4), in
the order of torchvision."""
