"""The options of `augment`: what a training stage does to its pictures, batched, and pure in (seed, split,
row, view).

A step takes (B, C, H, W) float32 in [0, 1] and the rows' Draws, and returns the same shape and range.
kdx/data/views/chain.py applies them in order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kdx.core.checks import shown
from kdx.core.errors import UserError
from kdx.core.trees import moved
from kdx.core.warp import Warp, of_mirrors, of_windows
from kdx.data.views import pixels
from kdx.data.views.chain import Mixer, Step, Window
from kdx.data.views.draws import Draws


def check_number(
    name: str,
    value: object,
    low: float,
    high: float = math.inf,
    *,
    whole: bool = False,
    open_low: bool = False,
) -> None:
    """Raises a UserError unless `value` is a number between low and high; `whole`: an integer."""
    numeric = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if numeric and math.isfinite(value) and low <= value <= high and not (open_low and value == low):
        return
    kind = "an integer" if whole else "a number"
    bound = f"above {low:g}" if open_low else f"of at least {low:g}"
    bound += f" and at most {high:g}" if high < math.inf else ""
    raise UserError(
        f"augment.{name} needs {kind} {bound}; given {shown(value)}: set it in that range, or "
        "leave it out for its default"
    )


def _between(uniform: Tensor, low: float, high: float) -> Tensor:
    return uniform * (high - low) + low


class FlipCrop(Step):
    """Pads, crops back to size at a random whole-pixel corner, mirrors with probability `flip`. pad: pixels;
    mode: zero or reflect.
    """

    moves_only = True
    tells_warp = True

    def __init__(self, *, pad: int, mode: str, flip: float):
        check_number("flip_crop.pad", pad, 0, whole=True)
        check_number("flip_crop.flip", flip, 0, 1)
        if mode not in ("zero", "reflect"):
            raise UserError(
                f"augment.flip_crop.mode needs zero or reflect; given {shown(mode)}: choose one of the two"
            )
        self.pad, self.reflect, self.flip = pad, mode == "reflect", flip

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        if self.reflect and self.pad >= min(x.shape[-2:]):
            h, w = x.shape[-2:]
            raise UserError(
                f"augment.flip_crop.pad={self.pad} cannot reflect pictures of {h}x{w}: set it below "
                f"{min(h, w)}, or mode=zero"
            )
        top, left, mirror = self._drawn(draws, op)
        return pixels.crop(x, top, left, mirror.to(torch.int64), pad=self.pad, reflect=self.reflect)

    def _drawn(self, draws: Draws, op: str) -> tuple[Tensor, Tensor, Tensor]:
        """(B,) int64 top and left of the window, (B,) bool whether the picture is mirrored."""
        # one draw for all three: on small batches the calls are what costs
        top, left, mirror = draws.uniform(op, 3).unbind(1)
        top, left = ((u * (2 * self.pad + 1)).to(torch.int64).clamp_(max=2 * self.pad) for u in (top, left))
        return top, left, mirror < self.flip

    def warp(self, draws: Draws, op: str, size: tuple[int, int]) -> Warp:
        top, left, mirrored = self._drawn(draws, op)
        found = of_mirrors(mirrored, size)  # of the picture, before the window is cut
        shift = found.shift + self.pad - torch.stack([left, top], 1)
        return replace(found, shift=shift, mirrors=not self.pad)


class RandomResizedCrop(Window):
    """A random part of the picture, of `scale` of its area and with a side ratio within `ratio`, as large as
    the picture, mirrored with probability `flip`: Inception's (Szegedy et al. 2015, arXiv 1409.4842), by
    torchvision's rule: ten tries, else the largest part around the centre. scale: shares of the area; ratio:
    width to height, of which the logarithm is uniform."""

    tells_warp = True
    tries = 10

    def __init__(self, *, scale: Sequence[float], ratio: Sequence[float], flip: float):
        for name, pair, high in (("scale", scale, 1.0), ("ratio", ratio, math.inf)):
            if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
                raise UserError(
                    f"augment.random_resized_crop.{name} needs two numbers, [low,high]; given {shown(pair)}"
                )
            for value in pair:
                check_number(f"random_resized_crop.{name}", value, 0, high, open_low=True)
            if pair[0] > pair[1]:
                raise UserError(
                    f"augment.random_resized_crop.{name} needs [low,high], the lower first; given "
                    f"{shown(pair)}"
                )
        check_number("random_resized_crop.flip", flip, 0, 1)
        self.scale, self.ratio, self.flip = tuple(scale), tuple(ratio), flip

    def numbers(self, draws: Draws, op: str) -> Tensor:
        return draws.uniform(op, 4 * self.tries + 1)

    def window(self, numbers: Sequence[float], width: int, height: int) -> tuple[int, int, int, int, bool]:
        (least, most), (narrow, broad) = self.scale, self.ratio
        mirrored = numbers[-1] < self.flip
        for number in range(self.tries):
            area, shape, down, across = numbers[4 * number : 4 * number + 4]
            target = width * height * (least + (most - least) * area)
            side = math.exp(math.log(narrow) + (math.log(broad) - math.log(narrow)) * shape)
            wide, high = round(math.sqrt(target * side)), round(math.sqrt(target / side))
            if 0 < wide <= width and 0 < high <= height:
                left, top = int(across * (width - wide + 1)), int(down * (height - high + 1))
                return left, top, wide, high, mirrored
        wide, high = width, height
        if width / height < narrow:
            high = max(1, round(width / narrow))
        elif width / height > broad:
            wide = max(1, round(height * broad))
        return (width - wide) // 2, (height - high) // 2, wide, high, mirrored

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        found = torch.empty_like(x)
        drawn = self.numbers(draws.given, op).tolist()
        for row, numbers in enumerate(drawn):  # each alone, whatever the batch
            left, top, wide, high, mirrored = self.window(numbers, x.shape[3], x.shape[2])
            seen = x[row : row + 1, :, top : top + high, left : left + wide]
            made = F.interpolate(seen, size=x.shape[-2:], mode="bilinear", antialias=True)[0]
            found[row] = made.flip(2) if mirrored else made
        return found.clamp_(0, 1)

    def warp(self, draws: Draws, op: str, size: tuple[int, int]) -> Warp:
        numbers = self.numbers(draws.given, op).tolist()
        seen = [self.window(row, size[1], size[0]) for row in numbers]
        window = moved(torch.tensor(seen, dtype=torch.float32), draws.device).T
        return of_windows(window[:4], window[4] > 0, size)


class Affine(Step):
    """Rotation by +-degrees, shift by +-shift of the side, size by +-scale, each uniform; bilinear, zero
    outside.
    """

    def __init__(self, *, degrees: float, shift: float, scale: float):
        check_number("affine.degrees", degrees, 0, 180)
        check_number("affine.shift", shift, 0, 1)
        check_number("affine.scale", scale, 0, 0.95)
        self.radians, self.shift, self.scale = math.radians(degrees), shift, scale

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        h, w = x.shape[-2:]
        angle, right, down, scale = _between(draws.uniform(op, 4), -1.0, 1.0).unbind(1)
        cosine, sine = pixels.turn(angle * self.radians)
        right, down, size = right * (self.shift * w), down * (self.shift * h), scale * self.scale + 1
        cosine, sine = cosine / size, sine / size
        x0, y0 = -(cosine * right + sine * down), sine * right - cosine * down
        return pixels.warp(x, cosine, sine, x0, -sine, cosine, y0)


class Rotate(Step):
    """Rotation by a uniform angle in +-degrees; bilinear, zero outside."""

    def __init__(self, *, degrees: float):
        check_number("rotate.degrees", degrees, 0, 180)
        self.radians = math.radians(degrees)

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        cosine, sine = pixels.turn(_between(draws.uniform(op, 1)[:, 0], -self.radians, self.radians))
        zero = torch.zeros_like(sine)
        return pixels.warp(x, cosine, -sine, zero, sine, cosine, zero)


class ColourJitter(Step):
    """Brightness, contrast and saturation times a factor in 1 +- the amount (not below 0), hue turned by
    +-hue of the circle, in this order.

    torchvision's ColorJitter shuffles the order; here it is fixed. Saturation and hue leave pictures of one
    channel alone.
    """

    in_place = True

    def __init__(self, *, brightness: float, contrast: float, saturation: float, hue: float):
        check_number("colour_jitter.brightness", brightness, 0)
        check_number("colour_jitter.contrast", contrast, 0)
        check_number("colour_jitter.saturation", saturation, 0)
        check_number("colour_jitter.hue", hue, 0, 0.5)
        self._factors = (
            (pixels.brightness, brightness),
            (pixels.contrast, contrast),
            (pixels.saturation, saturation),
        )
        self.hue = hue

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        draw = draws.uniform(op, 4)
        for column, (function, amount) in enumerate(self._factors):
            if amount:
                x = function(x, _between(draw[:, column], max(0.0, 1 - amount), 1 + amount))
        if self.hue:
            x = pixels.hue(x, _between(draw[:, 3], -self.hue, self.hue))
        return x


class Noise(Step):
    """Adds Gaussian noise of standard deviation `std` to each value, then clamps to [0, 1]."""

    in_place = True

    def __init__(self, *, std: float):
        check_number("noise.std", std, 0)
        self.std = std

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        return (draws.normal(op, x[0].numel()).view(x.shape) * self.std).add_(x).clamp_(0, 1)


class Cutout(Step):
    """Paints a square, centred on a uniform pixel and clipped at the border, with `fill` (DeVries and Taylor,
    arXiv:1708.04552).

    size: an integer is a count of pixels, a number in (0, 1) a share of the shorter side.
    """

    in_place = True

    def __init__(self, *, size: float, fill: float):
        check_number("cutout.size", size, 0, open_low=True)
        if size >= 1:
            check_number("cutout.size", size, 1, whole=True)
        check_number("cutout.fill", fill, 0, 1)
        self.size, self.fill = size, fill

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        h, w = x.shape[-2:]
        size = self.size if self.size >= 1 else max(1, round(self.size * min(h, w)))
        row, column = draws.integers(f"{op}/row", h, 1)[:, 0], draws.integers(f"{op}/column", w, 1)[:, 0]
        return pixels.cut(x, row, column, size=size, fill=self.fill)


class Mixup(Mixer):
    """lam x + (1 - lam) partner, lam ~ Beta(alpha, alpha), classes mixed alike (Zhang et al.,
    arXiv:1710.09412).

    The partner is a row of the same split, drawn by hash rather than from the batch, and its pixels are its
    own view of the same number: so a mixed picture too depends on its (row, view) only. lam takes 4,096
    equally likely values.
    """

    _GRID = 65536
    _LEVELS = 4096

    def __init__(self, *, alpha: float):
        check_number("mixup.alpha", alpha, 0, 100, open_low=True)
        # One half of the distribution, by its distribution function on a grid; the other is its mirror image.
        # Below alpha = 1 the density has a pole at 0: the grid is then in t = lam^alpha, where dP is
        # proportional to (1 - lam)^(alpha - 1) dt.
        power = min(alpha, 1.0)
        t = np.linspace(0.0, 0.5**power, self._GRID + 1)
        lam = t ** (1 / power)
        density = (1 - lam) ** (alpha - 1) * (lam ** (alpha - 1) if alpha > 1 else 1.0)
        mass = np.concatenate(([0.0], np.cumsum(density[1:] + density[:-1])))
        levels = (np.arange(self._LEVELS // 2) + 0.5) / (self._LEVELS // 2)
        lower = np.interp(levels, mass / mass[-1], t) ** (1 / power)
        self._lam = torch.tensor(np.concatenate((lower, 1 - lower[::-1])), dtype=torch.float32)

    def pairs(self, draws: Draws, op: str, rows: int) -> tuple[Tensor, Tensor]:
        """B draws -> partner (B,) int64 in [0, rows), lam (B,) float32 in [0, 1]"""
        partner = draws.integers(f"{op}/partner", rows, 1)[:, 0]
        level = draws.integers(f"{op}/lam", self._LEVELS, 1)[:, 0]
        return partner, self._lam.to(level.device)[level]

    def blend(self, x: Tensor, other: Tensor, share: Tensor) -> Tensor:
        return pixels.blend(x, other, share)
