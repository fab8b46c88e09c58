"""A picture as an `image_size` square of bytes: which part of it is seen, and what lies behind what is
transparent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core import checks
from kdx.data.loading import check_int
from kdx.data.pictures import deep

FITS = ("crop", "pad", "squeeze")
SCALES = {"L;2": 85, "L;4": 17}
"""What a grey PNG of two and of four bits is multiplied by, to have eight."""
WHOLE = 1 << 24
"""Pixels up to which a picture is resized whole and then cut; beyond, what is kept is resized alone: the same
to a level of rounding.
"""


class Square:
    """fit: "crop" resizes the short side and cuts the centre out, "pad" resizes the long side and fills up
    with the background, "squeeze" resizes both. background: behind transparent pixels and beside padded
    pictures: the name of a colour, a grey level 0..255, or [red, green, blue]; pictures read as grey take the
    grey of a colour."""

    def __init__(self, *, image_size: int, fit: str, background: Any):
        self.size = check_int("image_size", image_size, 4, 4096)
        self.fit = checks.choice("dataset.fit", fit, FITS)
        self.background = check_background(background)

    def of_bytes(self, path: Path, grey: bool, cut: Callable[[Any], Any] | None = None) -> np.ndarray:
        """(C, S, S) uint8 of a picture of eight bits. cut: what makes a square of it; None: as `fit` says."""
        from PIL import Image, ImageOps

        with Image.open(path) as picture:
            if picture.format == "JPEG" and cut is None:
                # decodes at a half, quarter or eighth where that is still twice what is needed
                picture.draft(None, (2 * self.size, 2 * self.size))
            # which Pillow does not scale as it does the pixels
            if picture.format == "PNG" and isinstance(key := picture.info.get("transparency"), int):
                white = picture.mode == "1" and key  # scaled by Pillow from 12.1 on
                picture.info["transparency"] = 255 if white else key * SCALES.get(deep.raw_mode(picture), 1)
            return self.of_picture(ImageOps.exif_transpose(picture), grey, cut)

    def of_picture(self, picture: Any, grey: bool, cut: Callable[[Any], Any] | None = None) -> np.ndarray:
        """(C, S, S) uint8 of a PIL image of eight bits. cut: see `of_bytes`."""
        from PIL import Image

        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, (*self.background, 255)), picture)
        if picture.mode == "LAB":  # which Pillow makes grey of by way of these only
            picture = picture.convert("RGB")
        picture = picture.convert("L" if grey else "RGB")
        square = cut(picture) if cut else self._square(picture, self._level() if grey else self.background)
        pixels = np.asarray(square)
        return pixels[None] if grey else pixels.transpose(2, 0, 1)

    def of_values(
        self, path: Path, grey: bool, span: deep.Span, cut: Callable[[Any], Any] | None = None
    ) -> tuple[np.ndarray, bool, bool]:
        """(C, S, S) uint8, and as kdx.data.pictures.deep.scaled: whether values lay beyond black and white,
        and whether some are no numbers
        """
        from PIL import Image

        values, opaque, turned = deep.read_deep(path)
        values, beyond, odd = deep.scaled(values, span, turned)
        values = deep.luminance(values) if grey else values
        levels = (self._level(),) if grey else self.background
        planes = []
        for channel, level in enumerate(levels):
            plane = values[..., min(channel, values.shape[-1] - 1)]
            plane = plane if opaque is None else plane * opaque + level * (1 - opaque)
            whole = Image.fromarray(plane)
            planes.append(np.asarray(cut(whole) if cut else self._square(whole, level)))
        return np.rint(np.stack(planes)).astype(np.uint8), beyond, odd

    def inner(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height of what is seen of a picture in its square, where nothing of it is cut off."""
        if self.fit == "squeeze":
            return self.size, self.size
        scale = self.size / max(size)
        wide, high = (min(self.size, max(1, round(side * scale))) for side in size)
        return wide, high

    def _level(self) -> int:
        """The background's grey."""
        from PIL import Image

        return Image.new("RGB", (1, 1), self.background).convert("L").getpixel((0, 0))

    def _square(self, picture: Any, background: Any) -> Any:
        from PIL import Image

        size, bilinear = self.size, Image.Resampling.BILINEAR
        if self.fit == "squeeze":
            return picture.resize((size, size), bilinear)
        if self.fit == "pad":
            inner = picture.resize(self.inner(picture.size), bilinear)
            square = Image.new(picture.mode, (size, size), background)
            square.paste(inner, ((size - inner.width) // 2, (size - inner.height) // 2))
            return square
        scale = size / min(picture.size)
        wide, high = (max(size, round(side * scale)) for side in picture.size)
        left, top = (wide - size) // 2, (high - size) // 2
        if wide * high <= WHOLE:
            return picture.resize((wide, high), bilinear).crop((left, top, left + size, top + size))
        across, down = picture.width / wide, picture.height / high
        box = (
            left * across,
            top * down,
            min(picture.width, (left + size) * across),
            min(picture.height, (top + size) * down),
        )
        return picture.resize((size, size), bilinear, box=box)


def check_background(value: Any) -> tuple[int, ...]:
    """Red, green and blue, 0..255."""
    levels = list(value) if isinstance(value, list | tuple) else [value] * 3
    if isinstance(value, str):
        from PIL import ImageColor

        with contextlib.suppress(ValueError):
            levels = list(ImageColor.getrgb(value)[:3])
    if len(levels) == 3 and all(
        isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= 255 for v in levels
    ):
        return tuple(levels)
    checks.refuse(
        "dataset.background must be the name of a colour such as white, a grey level from 0 to 255, or "
        f"[red,green,blue]; given: {checks.shown(value)}"
    )
    return 255, 255, 255
