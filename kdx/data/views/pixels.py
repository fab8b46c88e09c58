"""Pure functions on batches of pictures: (B, C, H, W) float32 in [0, 1] in, the same out, one amount per row.

Every function treats each row alone and gives it the same bits in any batch. Hence three rules: no matrix
product or convolution (its kernel may change with the batch size), no float reduction (its order may), no
float32 transcendental (the tail of a vectorised loop may round another way than its body). Conventions and
constants follow torchvision's functional transforms; tests/test_augment.py compares the two.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from kdx.core.errors import UserError
from kdx.core.levels import as_float as as_float


def as_levels(x: Tensor) -> Tensor:
    """float32 in [0, 1] -> the nearest of the 256 levels, int64"""
    return (x * 255).round().to(torch.int64)


def per_row(values: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)"""
    return values.view(-1, 1, 1, 1)


def crop(x: Tensor, top: Tensor, left: Tensor, flip: Tensor, *, pad: int, reflect: bool) -> Tensor:
    """Any dtype. Pads by `pad` on every side, cuts the window whose corner is (top, left), each in [0, 2
    pad], of the mirrored picture where flip is 1. top, left, flip: (B,) int64."""
    b, c, h, w = x.shape
    # the picture and its mirror image, so that one indexing does it all
    both = x.new_zeros(b, 2, c, h + 2 * pad, w + 2 * pad)
    both[:, 0, :, pad : pad + h, pad : pad + w] = x
    both[:, 1, :, pad : pad + h, pad : pad + w] = x.flip(3)
    if reflect and pad:
        both[..., :pad] = both[..., pad + 1 : 2 * pad + 1].flip(-1)
        both[..., pad + w :] = both[..., w - 1 : pad + w - 1].flip(-1)
        both[..., :pad, :] = both[..., pad + 1 : 2 * pad + 1, :].flip(-2)
        both[..., pad + h :, :] = both[..., h - 1 : pad + h - 1, :].flip(-2)
    # All windows of all pictures as one overlapping view, (places, C, H, W), by the place in memory of their
    # first pixel: nothing is copied before index_select, which moves whole windows and is three times as fast
    # as indexing by row, column and mirror.
    line, plane = w + 2 * pad, (w + 2 * pad) * (h + 2 * pad)
    places = both.numel() - (c - 1) * plane - (h - 1) * line - w + 1
    windows = both.as_strided((places, c, h, w), (1, plane, line, 1))
    picture = torch.arange(b, device=x.device) * 2 + flip
    return windows.index_select(0, picture * (c * plane) + top * line + left)


def turn(angle: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) radians in [-pi, pi] -> cosine and sine, float32, from multiplications and additions only, within
    1e-7.

    Taylor series of a quarter of the angle in float64, then the double-angle formulas twice.
    """
    t = angle.to(torch.float64) * 0.25
    t2 = t * t
    sine, cosine = torch.full_like(t, 1 / 362880), torch.full_like(t, -1 / 3628800)
    for coefficient in (-1 / 5040, 1 / 120, -1 / 6, 1.0):
        sine = sine * t2 + coefficient
    for coefficient in (1 / 40320, -1 / 720, 1 / 24, -0.5, 1.0):
        cosine = cosine * t2 + coefficient
    sine = sine * t
    for _ in range(2):
        sine, cosine = 2 * (sine * cosine), 1 - 2 * (sine * sine)
    return cosine.to(torch.float32), sine.to(torch.float32)


def warp(x: Tensor, xx: Tensor, xy: Tensor, x0: Tensor, yx: Tensor, yy: Tensor, y0: Tensor) -> Tensor:
    """Output pixel (X, Y) shows the input at (xx X + xy Y + x0, yx X + yy Y + y0), bilinear, zero outside.

    Coordinates are pixels from the picture's centre; every coefficient is (B,).
    """
    h, w = x.shape[-2:]
    across = torch.arange(w, dtype=torch.float32, device=x.device).sub_((w - 1) / 2).view(1, 1, w)
    down = torch.arange(h, dtype=torch.float32, device=x.device).sub_((h - 1) / 2).view(1, h, 1)
    xx, xy, x0, yx, yy, y0 = (v.view(-1, 1, 1) for v in (xx, xy, x0, yx, yy, y0))
    grid = x.new_empty(len(x), h, w, 2)
    torch.add((xx * across + x0) * (2 / w), xy * down * (2 / w), out=grid[..., 0])
    torch.add((yx * across + y0) * (2 / h), yy * down * (2 / h), out=grid[..., 1])
    # Four weights that sum to 1 may round to just above it.
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False).clamp_(0, 1)


def blend(x: Tensor, other: Tensor | float, factor: Tensor) -> Tensor:
    """factor x + (1 - factor) other, clamped: 0 gives `other`, 1 gives x, above 1 moves away from `other`.
    factor: (B,)
    """
    f = per_row(factor)
    return (x * f + (1 - f) * other).clamp_(0, 1)


def _coloured(x: Tensor) -> bool:
    channels = x.shape[1]
    if channels not in (1, 3):
        raise UserError(
            f"colour needs pictures of 1 or 3 channels; given {channels}: leave colour_jitter and "
            "randaugment out of augment"
        )
    return channels == 3


def grey(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 1, H, W): luma of three channels, the picture itself of one"""
    if not _coloured(x):
        return x
    return x[:, 0:1] * 0.2989 + x[:, 1:2] * 0.587 + x[:, 2:3] * 0.114


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    return blend(x, 0.0, factor)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """A picture of one channel stays."""
    return blend(x, grey(x), factor) if _coloured(x) else x


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Blends with the mean luma. The mean is taken over integers, whose sum is the same in any order."""
    luma = grey(x)
    total = (luma * 2.0**24).to(torch.int64).sum(dim=(1, 2, 3))
    mean = total.to(torch.float64) * (1.0 / (2**24 * luma[0].numel()))
    return blend(x, per_row(mean.to(torch.float32)), factor)


def sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """Blends with the picture smoothed by (1 1 1 / 1 5 1 / 1 1 1) / 13; its border stays."""
    h, w = x.shape[-2:]
    if min(h, w) <= 2:
        return x
    total = x[..., 1:-1, 1:-1] * 4
    for i in range(3):
        for j in range(3):
            total = total + x[..., i : h - 2 + i, j : w - 2 + j]
    smooth = x.clone()
    smooth[..., 1:-1, 1:-1] = total / 13
    return blend(x, smooth, factor)


def blur(x: Tensor, *, sigma: float) -> Tensor:
    """Gaussian of standard deviation `sigma` pixels, cut off at three of them and at the picture's side,
    borders mirrored: along rows, then columns.
    """
    for dim in (3, 2):
        side = x.shape[dim]
        radius = min(math.ceil(3 * sigma), side - 1)
        weights = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-radius, radius + 1)]
        wide = torch.cat(
            [x.narrow(dim, 1, radius).flip(dim), x, x.narrow(dim, side - 1 - radius, radius).flip(dim)], dim
        )
        total = sum(
            wide.narrow(dim, start, side) * (weight / sum(weights)) for start, weight in enumerate(weights)
        )
        x = total.clamp_(0, 1)
    return x


def hue(x: Tensor, shift: Tensor) -> Tensor:
    """Turns the hue by `shift` in [-0.5, 0.5] of the circle; a picture of one channel stays. shift: (B,)"""
    if not _coloured(x):
        return x
    red, green, blue = x.unbind(1)
    value, least = x.amax(1), x.amin(1)
    spread = value - least
    flat = spread == 0
    safe = torch.where(flat, 1.0, spread)
    # in [-1, 5], sixths of the circle
    sector = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sector = sector + shift.view(-1, 1, 1) * 6
    channels = []
    # red, green, blue: value - spread * max(0, min(k, 4 - k, 1)) with k = offset + sector modulo 6
    for offset in (
        5.0,
        3.0,
        1.0,
    ):
        k = sector + offset
        k = k - 6 * (k / 6).floor()
        channels.append(value - spread * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.stack(channels, 1).clamp_(0, 1)


def posterize(x: Tensor, *, bits: int) -> Tensor:
    """Keeps the highest `bits` of each 8-bit level."""
    return as_float((as_levels(x) & -(1 << (8 - bits))).to(torch.uint8))


def solarize(x: Tensor, *, threshold: float) -> Tensor:
    """Inverts what is at least `threshold`."""
    return torch.where(x >= threshold, 1 - x, x)


def autocontrast(x: Tensor) -> Tensor:
    """Stretches each channel to [0, 1]; a channel of one level stays."""
    least, most = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    flat = least == most
    stretched = ((x - least) * (1 / torch.where(flat, 1.0, most - least))).clamp_(0, 1)
    return torch.where(flat, x, stretched)


def equalize(x: Tensor) -> Tensor:
    """Flattens each channel's histogram of 256 levels (Pillow's rule, in integers)."""
    levels = as_levels(x).flatten(0, 1).flatten(1)
    counts = levels.new_zeros(len(levels), 256).scatter_add_(1, levels, torch.ones_like(levels))
    highest = counts.gather(1, levels.amax(1, keepdim=True))
    step = torch.div(levels.shape[1] - highest, 255, rounding_mode="floor")
    below = counts.cumsum(1) - counts
    table = torch.div(
        below + torch.div(step, 2, rounding_mode="floor"), step.clamp(min=1), rounding_mode="floor"
    ).clamp_(0, 255)
    table = torch.where(step == 0, torch.arange(256, device=x.device), table)
    return as_float(table.gather(1, levels).view(x.shape).to(torch.uint8))


def cut(x: Tensor, row: Tensor, column: Tensor, *, size: int, fill: float) -> Tensor:
    """Paints the size x size square around (row, column), clipped at the border, with `fill`. row, column:
    (B,) int64
    """
    first_row, first_column = row.view(-1, 1) - size // 2, column.view(-1, 1) - size // 2
    rows, columns = torch.arange(x.shape[2], device=x.device), torch.arange(x.shape[3], device=x.device)
    inside_row = (rows >= first_row) & (rows < first_row + size)
    inside_column = (columns >= first_column) & (columns < first_column + size)
    return x.masked_fill((inside_row[:, :, None] & inside_column[:, None, :])[:, None], fill)
