"""Made-up sounds of six kinds in noise, as log-mel pictures: as dataset=wav makes them of files."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from kdx.core import checks
from kdx.data.loading import check_int, per_class
from kdx.data.pictures.rows import Pictures, describe
from kdx.data.raw import Description
from kdx.data.sound.made_up import SOUNDS, made_up_sound
from kdx.data.sound.mel import LogMel


class Tones:
    """rows, test_rows: as many sounds, the kinds by turns. noise: in [0, 1], the largest deviation of the
    noise; a tone is 0.05 to 0.5 loud. data_seed: a number of the data set's own, so that the run's seed does
    not change the sounds. The others: see LogMel.
    """

    def __init__(
        self,
        *,
        rows: int,
        test_rows: int,
        noise: float,
        data_seed: int,
        rate: int,
        seconds: float,
        mels: int,
        hop: float,
        window: float,
    ):
        self._rows = check_int("rows", rows, len(SOUNDS), 1_000_000)
        self._test_rows = check_int("test_rows", test_rows, 0, 1_000_000)
        self._noise = checks.number("dataset.noise", noise, low=0, high=1)
        self._seed = check_int("data_seed", data_seed, 0, 2**63 - 1)
        self._mel = LogMel(rate, seconds, mels, hop, window)

    def files(self) -> list[Path]:
        return []

    def fetch(self) -> None:
        """Nothing to fetch."""

    def describe(self) -> Description:
        labels = self._labels(self._rows)
        return describe(
            self._mel.shape,
            tuple(SOUNDS),
            self._rows,
            per_class(labels, len(SOUNDS)),
            self._test_rows or None,
            0,
        )

    def load(self, *, workers: int = 0) -> Pictures:
        images = self._pictures
        train, test = images[: self._rows], images[self._rows :]
        labels = self._labels(self._rows)
        if not self._test_rows:
            return Pictures(train, labels, tuple(SOUNDS), noun="sound")
        return Pictures(train, labels, tuple(SOUNDS), test, self._labels(self._test_rows), noun="sound")

    @cached_property
    def _pictures(self) -> np.ndarray:
        """(rows + test_rows, 1, mels, frames) uint8"""
        random = np.random.Generator(np.random.PCG64(self._seed))
        kinds = np.concatenate([self._labels(self._rows), self._labels(self._test_rows)])
        names, rate, seconds = list(SOUNDS), self._mel.rate, self._mel.seconds
        return np.stack(
            [
                self._mel.picture(made_up_sound(names[kind], rate, seconds, self._noise, random), rate)
                for kind in kinds
            ]
        )

    def _labels(self, rows: int) -> np.ndarray:
        return np.arange(rows, dtype=np.int64) % len(SOUNDS)
