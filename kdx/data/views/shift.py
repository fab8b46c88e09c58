"""The options of `shift`: what is done to test pictures to see how accuracies hold up. Each has one strength;
nothing is trained on them.

They are steps of a view, as augmentation is: the same picture comes out for the same (seed, row), in any
batch. The kinds are some of those of Hendrycks and Dietterich 2019 (arXiv 1903.12261); the strengths are not
theirs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kdx.core import checks
from kdx.data.views import pixels
from kdx.data.views.chain import Step
from kdx.data.views.draws import Draws


class Blur(Step):
    """Gaussian blur; sigma: standard deviation in pixels, > 0."""

    in_place = True

    def __init__(self, *, sigma: float):
        self.sigma = checks.number("shift.blur.sigma", sigma, low=0, high=100, open_low=True)

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        return pixels.blur(x, sigma=self.sigma)


class Grain(Step):
    """Gaussian noise on each value, clamped to [0, 1]; std: its standard deviation where values are in [0,
    1], >= 0.
    """

    in_place = True

    def __init__(self, *, std: float):
        self.std = checks.number("shift.noise.std", std, low=0)

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        return (draws.normal(op, x[0].numel()).view(x.shape) * self.std).add_(x).clamp_(0, 1)


class Contrast(Step):
    """Blends with the picture's mean brightness; factor >= 0: 1 leaves it, 0 is flat, above 1 is harder."""

    in_place = True

    def __init__(self, *, factor: float):
        self.factor = checks.number("shift.contrast.factor", factor, low=0)

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        return pixels.contrast(x, torch.full((len(x),), self.factor, device=x.device))


class Rotation(Step):
    """Turned by this angle, to the left or to the right by the row's draw; zero outside. degrees: in [0,
    180].
    """

    def __init__(self, *, degrees: float):
        self.radians = math.radians(checks.number("shift.rotation.degrees", degrees, low=0, high=180))

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        side = (draws.uniform(op, 1)[:, 0] < 0.5).to(torch.float32) * 2 - 1
        cosine, sine = pixels.turn(side * self.radians)
        zero = torch.zeros_like(sine)
        return pixels.warp(x, cosine, -sine, zero, sine, cosine, zero)


class ShotNoise(Step):
    """Noise of counted photons, clamped to [0, 1]: a value x gets Gaussian noise of variance x / photons, to
    which a Poisson count of mean x * photons comes close. photons: at a value of 1, > 0.
    """

    in_place = True

    def __init__(self, *, photons: float):
        self.photons = checks.number("shift.shot_noise.photons", photons, low=0, open_low=True)

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        spread = (x / self.photons).sqrt()
        return (draws.normal(op, x[0].numel()).view(x.shape) * spread).add_(x).clamp_(0, 1)


class Brightness(Step):
    """Every value raised by `amount`, in [-1, 1] (below 0: lowered), and clamped to [0, 1]."""

    in_place = True

    def __init__(self, *, amount: float):
        self.amount = checks.number("shift.brightness.amount", amount, low=-1, high=1)

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        return (x + self.amount).clamp_(0, 1)


class Pixelate(Step):
    """Squares of size x size pixels that show their middle one alone; size: a whole number >= 1, 1 leaves the
    picture."""

    moves_only = True
    in_place = True

    def __init__(self, *, size: int):
        self.size = checks.integer("shift.pixelate.size", size, low=1)

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        for dim in (2, 3):
            place = torch.arange(x.shape[dim], device=x.device)
            middle = torch.div(place, self.size, rounding_mode="floor") * self.size + self.size // 2
            x = x.index_select(dim, middle.clamp_(max=x.shape[dim] - 1))
        return x


class Occlusion(Step):
    """A square painted over, around a pixel that is drawn, clipped at the border. size: its side as a share
    of the shorter one, in (0, 1]; fill: its grey, in [0, 1]."""

    in_place = True

    def __init__(self, *, size: float, fill: float):
        self.size = checks.number("shift.occlusion.size", size, low=0, high=1, open_low=True)
        self.fill = checks.number("shift.occlusion.fill", fill, low=0, high=1)

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        h, w = x.shape[-2:]
        row, column = draws.integers(f"{op}/row", h, 1)[:, 0], draws.integers(f"{op}/column", w, 1)[:, 0]
        return pixels.cut(x, row, column, size=max(1, round(self.size * min(h, w))), fill=self.fill)


class Invert(Step):
    """Blended with its negative; amount: the negative's share, in [0, 1]. At 0.5 all is grey."""

    in_place = True

    def __init__(self, *, amount: float):
        self.amount = checks.number("shift.invert.amount", amount, low=0, high=1)

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        return (x + (1 - 2 * x) * self.amount).clamp_(0, 1)


class Texture(Step):
    """A grey texture behind what is bright: x + amount * t * (1 - x), t in [0, 1] noise that was blurred by
    one pixel and stretched, of the row's draw. amount in [0, 1]."""

    in_place = True
    stretch = 3.0

    def __init__(self, *, amount: float):
        self.amount = checks.number("shift.texture.amount", amount, low=0, high=1)

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        noise = draws.uniform(op, x[0, :1].numel()).view(len(x), 1, *x.shape[2:])
        texture = ((pixels.blur(noise, sigma=1.0) - 0.5) * self.stretch + 0.5).clamp_(0, 1)
        return (x + texture * (1 - x) * self.amount).clamp_(0, 1)


class Colour(Step):
    """Ground and ink of colours that are drawn for the row: in each channel x becomes a + (b - a) x, a and b
    in [0, 1), blended with x by `amount` in [0, 1]. Of one channel these are greys."""

    in_place = True

    def __init__(self, *, amount: float):
        self.amount = checks.number("shift.colour.amount", amount, low=0, high=1)

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        drawn = draws.uniform(op, 2 * x.shape[1]).view(len(x), 2, x.shape[1], 1, 1)
        ground, ink = drawn.unbind(1)
        return (x + (ground + (ink - ground) * x - x) * self.amount).clamp_(0, 1)
