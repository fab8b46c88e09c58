"""Pictures that no camera has taken, for a pool: mixtures of the labelled ones, shapes, fractals and noise. A
teacher may still teach by them (Nayak, Mopuri and Chakraborty 2021, arXiv 2011.09113): the control of
real proxies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageDraw

from kdx.core import checks
from kdx.core.errors import UserError, rows_called
from kdx.data.making import RowMaker
from kdx.data.pictures.rows import READS
from kdx.data.raw import Raw
from kdx.data.stored import taken

_POINTS = 2000
"""Points of a fractal, of which the first few are on the way to it."""
_ON_THE_WAY = 20


class MadeUpPictures(RowMaker):
    """rows >= 1 pictures of one kind, of the size and channels of the labelled ones:

    mixtures: the mean of two labelled pictures, drawn at random, with a weight from [0, 1]. shapes: one to
    four lines, ellipses and polygons, light on dark. fractals: points of an iterated function system of two
    to six affine maps (in the manner of Kataoka et al. 2020, arXiv 2101.08515). noise: each value drawn from
    a normal distribution with the mean and deviation of the labelled pictures. shuffled: a labelled picture,
    its pixels in an order of its own.

    mixtures and shuffled show what labelled pictures hold; the others their size and, of noise, two numbers.
    """

    reads: ClassVar[str] = READS

    def __init__(self, *, rows: int, kind: str):
        self.rows = checks.integer("pool.rows", rows, low=1)
        self.kind = checks.choice("pool.kind", kind, tuple(_KINDS))

    def make(self, raw: Raw, seen: Any, seed: int) -> np.ndarray:
        if raw.reads != READS:
            raise UserError(
                f"pool=synthetic makes pictures, and this data set holds {rows_called(raw.reads)}: "
                "set pool=own"
            )
        return _KINDS[self.kind](seen, self.rows, np.random.Generator(np.random.PCG64([seed, 0])))


def _mixtures(seen: Any, rows: int, random: np.random.Generator) -> np.ndarray:
    first, second = (_drawn(seen, rows, random).astype(np.float32) for _ in range(2))
    weight = random.random((rows, 1, 1, 1), dtype=np.float32)
    return _levels(weight * first + (1 - weight) * second)


def _shuffled(seen: Any, rows: int, random: np.random.Generator) -> np.ndarray:
    found = _drawn(seen, rows, random)
    order = random.random((rows, found.shape[2] * found.shape[3])).argsort(1)
    flat = found.reshape(*found.shape[:2], -1)
    return np.take_along_axis(flat, order[:, None], 2).reshape(found.shape)


def _noise(seen: Any, rows: int, random: np.random.Generator) -> np.ndarray:
    some = np.asarray(seen[: min(len(seen), 1000)], np.float64)
    drawn = random.standard_normal((rows, *some.shape[1:]), np.float32)
    return _levels(some.mean() + some.std() * drawn)


def _shapes(seen: Any, rows: int, random: np.random.Generator) -> np.ndarray:
    channels, height, width = seen.shape[1:]
    return np.stack([_drawing(channels, height, width, random) for _ in range(rows)])


def _drawing(channels: int, height: int, width: int, random: np.random.Generator) -> np.ndarray:
    picture = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(picture)
    for _ in range(random.integers(1, 5)):
        level = random.integers(128, 256, 3 if channels == 3 else 1).repeat(1 if channels == 3 else 3)
        colour = (int(level[0]), int(level[1]), int(level[2]))
        points = random.random((random.integers(3, 6), 2)) * (width, height)
        corners = [(float(x), float(y)) for x, y in points]
        thick = int(max(1, round(random.uniform(0.03, 0.12) * width)))
        match random.integers(3):
            case 0:
                pen.line(corners, colour, thick)
            case 1:
                (left, top), (right, bottom) = points[:2].min(0), points[:2].max(0)
                pen.ellipse((left, top, right, bottom), outline=colour, width=thick)
            case _:
                pen.polygon(corners, colour)
    return np.asarray(picture).transpose(2, 0, 1)[:channels]


def _fractals(seen: Any, rows: int, random: np.random.Generator) -> np.ndarray:
    channels, height, width = seen.shape[1:]
    maps = random.uniform(-1, 1, (rows, 6, 2, 2))
    largest = np.linalg.svd(maps, compute_uv=False)[..., :1, None]
    maps *= random.uniform(0.4, 0.85, (rows, 6, 1, 1)) / largest  # each draws points together
    shift = random.uniform(-1, 1, (rows, 6, 2))
    count, every = random.integers(2, 7, rows), np.arange(rows)
    point, found = np.zeros((rows, 2)), np.empty((rows, _POINTS, 2))
    for step in range(_ON_THE_WAY + _POINTS):
        chosen = (random.random(rows) * count).astype(np.int64)
        point = np.einsum("nij,nj->ni", maps[every, chosen], point) + shift[every, chosen]
        if step >= _ON_THE_WAY:
            found[:, step - _ON_THE_WAY] = point
    low, high = found.min(1, keepdims=True), found.max(1, keepdims=True)
    places = (found - low) / np.maximum(high - low, 1e-9) * (width - 1, height - 1)
    column, line = places.round().astype(np.int64).transpose(2, 0, 1)
    hits = np.zeros((rows, height * width))
    np.add.at(hits, (every[:, None], line * width + column), 1)
    bright = np.sqrt(hits / hits.max(1, keepdims=True)).reshape(rows, 1, height, width)
    return _levels(255 * bright.repeat(channels, 1))


def _drawn(seen: Any, rows: int, random: np.random.Generator) -> np.ndarray:
    return np.asarray(taken(seen, random.integers(len(seen), size=rows)))


def _levels(values: np.ndarray) -> np.ndarray:
    return values.round().clip(0, 255).astype(np.uint8)


_KINDS: dict[str, Callable[[Any, int, np.random.Generator], np.ndarray]] = {
    "mixtures": _mixtures,
    "shapes": _shapes,
    "fractals": _fractals,
    "noise": _noise,
    "shuffled": _shuffled,
}
