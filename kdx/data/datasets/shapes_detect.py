"""Made-up pictures of shapes, each in its box: for detectors that train in a minute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdx.core import checks
from kdx.data.loading import check_int
from kdx.data.pictures.boxed import BoxedPictures, Located, describe_boxed, padded

if TYPE_CHECKING:
    from kdx.data.raw import Description

SHAPES = ("circle", "square", "triangle")
_TRIES, _APART = 20, 0.1
"""How often a place is drawn for a shape; by what IoU boxes of a picture overlap at most."""


class ShapesDetect:
    """Circles, squares and triangles of any colour on a slanted grey ground under noise, from none to `most`
    in a picture. A box ends with the pixels of its shape.

    image_size: 32 to 128. train_rows, test_rows: pictures; test_rows=0: no test part. noise: its standard
    deviation, 0 to 1, where brightness is in [0, 1]. data_seed: the data set's own. stride, levels, sure: see
    kdx.data.pictures.boxed.Located.
    """

    def __init__(
        self,
        *,
        image_size: int,
        train_rows: int,
        test_rows: int,
        most: int,
        noise: float,
        data_seed: int,
        stride: int,
        levels: int,
        sure: float,
    ):
        self._size = check_int("image_size", image_size, 32, 128)
        self._rows = {
            "train": check_int("train_rows", train_rows, 4, 1_000_000),
            "test": check_int("test_rows", test_rows, 0, 1_000_000),
        }
        self._most = check_int("most", most, 1, 20)
        self._noise = checks.number("dataset.noise", noise, low=0, high=1)
        self._seed = check_int("data_seed", data_seed, 0, 2**63 - 1)
        self._task = Located(stride, levels, sure).task(SHAPES, (image_size, image_size))

    def files(self) -> list[Path]:
        return []

    def fetch(self) -> None:
        """Nothing to fetch."""

    def describe(self) -> Description:
        return describe_boxed(self._task, 3, {part: rows for part, rows in self._rows.items() if rows})

    def load(self, *, workers: int = 0) -> BoxedPictures:
        parts = {}
        for number, (part, rows) in enumerate(self._rows.items()):
            if rows:
                draw = np.random.Generator(np.random.PCG64([self._seed, number]))
                made = [self._picture(draw) for _ in range(rows)]
                truth = padded([row[1] for row in made], self._most)
                parts[part] = (np.stack([row[0] for row in made]), truth)
        return BoxedPictures(parts, self._task)

    def _picture(self, draw: np.random.Generator) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """(3, S, S) uint8, and its boxes and classes."""
        from PIL import Image, ImageDraw

        side = self._size
        low, slope = draw.uniform(40, 140), draw.uniform(-60, 60, 2) / side
        ground = low + slope[0] * np.arange(side)[:, None] + slope[1] * np.arange(side)[None]
        picture = Image.fromarray(np.repeat(ground[..., None], 3, 2).clip(0, 255).astype(np.uint8))
        pen = ImageDraw.Draw(picture)
        boxes: list[tuple[int, int, int, int]] = []
        kinds: list[int] = []
        for _ in range(int(draw.integers(0, self._most + 1))):
            box = self._free(draw, boxes)
            if box is None:
                continue
            kind, colour = int(draw.integers(len(SHAPES))), tuple(map(int, draw.integers(90, 256, 3)))
            _paint(pen, kind, box, colour)
            boxes.append(box)
            kinds.append(kind)
        noisy = np.asarray(picture) + draw.normal(0, 255 * self._noise, (side, side, 3))
        pixels = noisy.clip(0, 255).astype(np.uint8).transpose(2, 0, 1)
        return pixels, (np.array(boxes, np.float32).reshape(-1, 4), np.array(kinds, np.int64))

    def _free(self, draw: np.random.Generator, boxes: list[Any]) -> tuple[int, int, int, int] | None:
        """A square that overlaps with no other one by more than _APART; None: none was found."""
        for _ in range(_TRIES):
            side = int(draw.integers(self._size // 6, self._size // 2))
            left, top = (int(corner) for corner in draw.integers(0, self._size - side + 1, 2))
            box = (left, top, left + side, top + side)
            if all(_overlap(box, other) <= _APART for other in boxes):
                return box
        return None


def _paint(pen: Any, kind: int, box: tuple[int, int, int, int], colour: tuple[int, ...]) -> None:
    left, top, right, bottom = box[0], box[1], box[2] - 1, box[3] - 1  # Pillow paints the last pixel too
    if SHAPES[kind] == "circle":
        pen.ellipse((left, top, right, bottom), fill=colour)
    elif SHAPES[kind] == "square":
        pen.rectangle((left, top, right, bottom), fill=colour)
    else:
        pen.polygon([((left + right) // 2, top), (left, bottom), (right, bottom)], fill=colour)


def _overlap(box: tuple[int, ...], other: tuple[int, ...]) -> float:
    """IoU"""
    across = min(box[2], other[2]) - max(box[0], other[0])
    down = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(across, 0) * max(down, 0)
    areas = sum((one[2] - one[0]) * (one[3] - one[1]) for one in (box, other))
    return shared / (areas - shared)
