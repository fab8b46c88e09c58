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

    def __init__(self, *, sigma: float):
        self.sigma = checks.number("shift.blur.sigma", sigma, low=0, high=100, open_low=True)

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        return pixels.blur(x, sigma=self.sigma)


class Grain(Step):
    """Gaussian noise on each value, clamped to [0, 1]; std: its standard deviation where values are in [0,
    1], >= 0.
    """

    def __init__(self, *, std: float):
        self.std = checks.number("shift.noise.std", std, low=0)

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        return (draws.normal(op, x[0].numel()).view(x.shape) * self.std).add_(x).clamp_(0, 1)


class Contrast(Step):
    """Blends with the picture's mean brightness; factor >= 0: 1 leaves it, 0 is flat, above 1 is harder."""

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
