"""Made-up pictures, for tests of the machinery and of speed only: no accuracy on them means anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kdx.core import checks
from kdx.core.errors import UserError
from kdx.data.loading import check_int, per_class
from kdx.data.pictures.rows import Pictures, describe
from kdx.data.raw import Description
from kdx.data.stored import InMemory, Writer, Writers

BLOBS = 3
CHUNK = 512
_PARTS = ("train", "test", "unlabelled")
"""In the order in which they are drawn."""


class Synthetic:
    """Each class is a picture of three soft blobs; a row is its class's picture, shifted by up to an eighth
    of the side, under noise.

    classes 2..10000; channels 1..16; image_size 4..1024, the side; train_rows at least one a class; test_rows
    and pool_rows may be 0: no such part (a test split is then held out of the train part). noise: its
    standard deviation, 0..2, where brightness is in [0, 1]. pattern_seed: a number of the data set's own, so
    that the run's seed does not change the data.
    """

    streams = True

    def __init__(
        self,
        *,
        classes: int,
        channels: int,
        image_size: int,
        train_rows: int,
        test_rows: int,
        pool_rows: int,
        noise: float,
        pattern_seed: int,
    ):
        self._classes = check_int("classes", classes, 2, 10_000)
        self._channels = check_int("channels", channels, 1, 16)
        self._side = check_int("image_size", image_size, 4, 1024)
        self._rows = check_int("train_rows", train_rows, classes, 100_000_000)
        self._test_rows = check_int("test_rows", test_rows, 0, 100_000_000)
        self._pool_rows = check_int("pool_rows", pool_rows, 0, 100_000_000)
        if isinstance(noise, bool) or not isinstance(noise, (int, float)) or not 0 <= noise <= 2:
            raise UserError(f"dataset.noise must be a number from 0 to 2; given {checks.shown(noise)}")
        self._noise = noise
        self._seed = check_int("pattern_seed", pattern_seed, 0, 2**63 - 1)

    def files(self) -> list[Path]:
        return []

    def fetch(self) -> None:
        """Nothing to fetch."""

    def describe(self) -> Description:
        shape = (self._channels, self._side, self._side)
        counts = per_class(self._labels(self._rows), self._classes)
        return describe(
            shape, self._names(), self._rows, counts, test=self._test_rows or None, pool=self._pool_rows
        )

    def load(self, *, workers: int = 0, write: Writers = InMemory) -> Pictures:
        labels = self._labels(self._rows)
        test = self._labels(self._test_rows) if self._test_rows else None

        def drawn(part: str, labels: np.ndarray) -> Any:
            writer = write(part, len(labels), (self._channels, self._side, self._side), np.uint8)
            return self._draw(labels, _PARTS.index(part) + 1, writer)

        return Pictures(
            drawn("train", labels),
            labels,
            self._names(),
            None if test is None else drawn("test", test),
            test,
            drawn("unlabelled", self._labels(self._pool_rows)) if self._pool_rows else None,
        )

    def _names(self) -> tuple[str, ...]:
        return tuple(f"class {k}" for k in range(self._classes))

    def _labels(self, rows: int) -> np.ndarray:
        """Classes in turn, so that each has its share whatever the number of rows."""
        return np.arange(rows, dtype=np.int64) % self._classes

    def _patterns(self) -> np.ndarray:
        """(K, C, S, S) float32 in [0, 1]"""
        rng = np.random.Generator(np.random.PCG64([self._seed, 0]))
        k, c, s = self._classes, self._channels, self._side
        centre = rng.uniform(0.2, 0.8, (k, BLOBS, 1, 2, 1)) * s
        width = rng.uniform(0.08, 0.2, (k, BLOBS, 1, 1, 1)) * s
        colour = rng.uniform(0.2, 1.0, (k, BLOBS, c, 1, 1))
        # (K, BLOBS, 1, 2, S): down and across
        bumps = np.exp(-0.5 * ((np.arange(s) + 0.5 - centre) / width) ** 2)
        pictures = (colour * bumps[..., 0, :, None] * bumps[..., 1, None, :]).sum(1)
        return np.clip(pictures, 0, 1).astype(np.float32)

    def _draw(self, labels: np.ndarray, part: int, writer: Writer) -> Any:
        """(N,) -> (N, C, S, S) uint8, in chunks, so that the floats never need much memory"""
        rng = np.random.Generator(np.random.PCG64([self._seed, part]))
        patterns, reach, side = (
            255 * np.ascontiguousarray(self._patterns().transpose(0, 2, 3, 1)),
            self._side // 8,
            self._side,
        )
        for start in range(0, len(labels), CHUNK):
            rows = labels[start : start + CHUNK]
            shift = rng.integers(-reach, reach + 1, (2, len(rows), 1))
            down, across = (np.arange(side) - shift) % side  # each (B, S)
            block = patterns[rows[:, None, None], down[:, :, None], across[:, None, :]]  # (B, S, S, C)
            noise = rng.standard_normal(block.shape, np.float32)
            noise *= np.float32(255 * self._noise)
            noise += block
            levels = np.clip(np.rint(noise, out=noise), 0, 255, out=noise).astype(np.uint8)
            writer.append(levels.transpose(0, 3, 1, 2))
        return writer.close()
