"""RandAugment (Cubuk et al., arXiv:1909.13719) on a batch,
with torchvision's fourteen operations and ranges.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kdx.data.views import pixels
from kdx.data.views.augment import check_number
from kdx.data.views.chain import Step
from kdx.data.views.draws import Draws

_GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
_FACTORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": pixels.brightness,
    "colour": pixels.saturation,
    "contrast": pixels.contrast,
    "sharpness": pixels.sharpness,
}
_PLAIN = ("posterize", "solarize", "autocontrast", "equalize")
OPERATIONS = ("identity", *_GEOMETRIC, *_FACTORS, *_PLAIN)


class RandAugment(Step):
    """`ops` operations in a row for each picture, each uniform among OPERATIONS and of strength `magnitude`
    (0..30), the sign random.

    Geometry is bilinear, where torchvision's default is nearest; outside is zero.
    """

    def __init__(self, *, ops: int, magnitude: int):
        check_number("randaugment.ops", ops, 1, 14, whole=True)
        check_number("randaugment.magnitude", magnitude, 0, 30, whole=True)
        self.ops = ops
        self.strength = magnitude / 30
        bits, threshold = 8 - round(magnitude / 7.5), 1 - self.strength
        self._plain: dict[str, Callable[[Tensor], Tensor]] = {
            "posterize": lambda x: pixels.posterize(x, bits=bits),
            "solarize": lambda x: pixels.solarize(x, threshold=threshold),
            "autocontrast": pixels.autocontrast,
            "equalize": pixels.equalize,
        }

    def __call__(self, x: Tensor, draws: Draws, op: str) -> Tensor:
        chosen = draws.integers(f"{op}/operation", len(OPERATIONS), self.ops)
        sign = draws.integers(f"{op}/sign", 2, self.ops).to(torch.float32) * 2 - 1
        for place in range(self.ops):
            x = self.apply(x, chosen[:, place], sign[:, place])
        return x

    def apply(self, x: Tensor, chosen: Tensor, sign: Tensor) -> Tensor:
        """One operation a row. chosen: (B,) int64 places in OPERATIONS; sign: (B,) float32, -1 or 1, ignored
        where the range is unsigned.
        """
        out = x.clone()
        # the five are one warp with coefficients of their own
        geometric = (chosen >= 1) & (chosen <= len(_GEOMETRIC))
        self._replace(out, geometric, lambda rows: self._warp(x[rows], chosen[rows], sign[rows]))
        for name, function in _FACTORS.items():
            amount = sign * (0.9 * self.strength) + 1
            self._replace(
                out, chosen == OPERATIONS.index(name), lambda rows, f=function, a=amount: f(x[rows], a[rows])
            )
        for name, function in self._plain.items():
            self._replace(out, chosen == OPERATIONS.index(name), lambda rows, f=function: f(x[rows]))
        return out

    @staticmethod
    def _replace(out: Tensor, where: Tensor, make: Callable[[Tensor | slice], Tensor]) -> None:
        if where.device.type != "cpu":  # all rows, as asking an accelerator which ones would stall it
            every = slice(None)
            out.copy_(torch.where(where[:, None, None, None], make(every), out))
            return
        rows = where.nonzero()[:, 0]
        if len(rows):
            out[rows] = make(rows)

    def _warp(self, x: Tensor, chosen: Tensor, sign: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        amounts = {
            "shear_x": 0.3 * self.strength,
            "shear_y": 0.3 * self.strength,
            "translate_x": float(int(150 / 331 * w * self.strength)),
            "translate_y": float(int(150 / 331 * h * self.strength)),
            "rotate": math.radians(30 * self.strength),
        }
        amount = {name: sign * (chosen == OPERATIONS.index(name)) * value for name, value in amounts.items()}
        cosine, sine = pixels.turn(amount["rotate"])
        # Shears keep the upper left corner in place, as torchvision's do; rotation turns about the centre,
        # anticlockwise if positive.
        return pixels.warp(
            x,
            cosine,
            amount["shear_x"] - sine,
            amount["shear_x"] * (h / 2) - amount["translate_x"],
            amount["shear_y"] + sine,
            cosine,
            amount["shear_y"] * (w / 2) - amount["translate_y"],
        )
