"""Sounds as pictures: how strong each band of pitch is at each time, in decibels. Numpy, and scipy where it
is used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kdx.core import checks
from kdx.core.errors import UserError
from kdx.data.loading import check_int

FLOOR_DECIBELS = -80.0
"""Decibels below a full-scale tone that are black; 0, the tone itself, is white."""
_FULL = 0.25
"""Power of a full-scale sine in its bin: half of its amplitude lies at the negative frequency."""


@dataclass(frozen=True)
class LogMel:
    """Of a sound of `seconds` at `rate` (samples a second) a picture of `mels` bands by `frames` times.

    Frames of `window` seconds under a Hann window, one every `hop` seconds, whole ones only; the power of
    each band is the sum over its frequencies, weighted by a triangle of height 1; bands are evenly spaced in
    mel, 2595 log10(1 + f / 700), from 0 to rate / 2 (O'Shaughnessy 1987); then decibels of a full-scale tone,
    cut off at FLOOR_DECIBELS. Not normalised by sound, so how loud one is can be seen. The highest band is
    the first row.
    """

    rate: int
    seconds: float
    mels: int
    hop: float
    window: float

    def __post_init__(self) -> None:
        check_int("rate", self.rate, 100, 192_000)
        checks.number("dataset.seconds", self.seconds, low=0, high=600, open_low=True)
        check_int("mels", self.mels, 4, 512)
        checks.number("dataset.window", self.window, low=0, high=10, open_low=True)
        checks.number("dataset.hop", self.hop, low=0, high=10, open_low=True)
        if self.length < 8 or self.step < 1:
            raise UserError(
                f"dataset.window={self.window} and dataset.hop={self.hop} seconds are {self.length} and "
                f"{self.step} samples at dataset.rate={self.rate}, and at least 8 and 1 are needed: make "
                "them longer"
            )
        if self.length > self.samples:
            raise UserError(
                f"dataset.window={self.window} is longer than dataset.seconds={self.seconds}, so that a "
                "sound has no frame: make one of the two other"
            )
        empty = int((self.filters.sum(1) == 0).sum())
        if empty:
            raise UserError(
                f"dataset.mels={self.mels}: {empty} of these bands lie between two frequencies of a window "
                f"of {self.length} samples and hold nothing; lower it, or make dataset.window longer"
            )

    @property
    def samples(self) -> int:
        return round(self.seconds * self.rate)

    @property
    def length(self) -> int:
        """Samples of a frame."""
        return round(self.window * self.rate)

    @property
    def step(self) -> int:
        return round(self.hop * self.rate)

    @property
    def frames(self) -> int:
        return 1 + (self.samples - self.length) // self.step

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one picture, (1, mels, frames)."""
        return 1, self.mels, self.frames

    @cached_property
    def filters(self) -> np.ndarray:
        """(mels, bins) float64 in [0, 1], the lowest band first"""
        edges = hertz(np.linspace(0, mel(self.rate / 2), self.mels + 2))
        bins = np.arange(self.length // 2 + 1) * self.rate / self.length
        low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
        return np.clip(np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)), 0, None)

    def decibels(self, sound: np.ndarray) -> np.ndarray:
        """(samples,) float in [-1, 1] -> (mels, frames) in [FLOOR_DECIBELS, 0], the highest band first"""
        from scipy.signal.windows import hann

        frames = np.lib.stride_tricks.sliding_window_view(sound, self.length)[:: self.step]
        shape = hann(self.length, sym=False)
        power = np.abs(np.fft.rfft(frames * shape, axis=1) / shape.sum()) ** 2
        bands = self.filters @ power.T / _FULL
        return np.clip(10 * np.log10(np.maximum(bands, 1e-30)), FLOOR_DECIBELS, 0)[::-1]

    def picture(self, sound: np.ndarray, rate: int) -> np.ndarray:
        """(n,) float in [-1, 1] at any rate -> (1, mels, frames) uint8. A shorter sound is followed by
        silence, of a longer one the first `seconds` count."""
        sound = resampled(sound[: math.ceil(self.seconds * rate)], rate, self.rate)[: self.samples]
        sound = np.pad(sound, (0, self.samples - len(sound)))
        return np.rint((self.decibels(sound) / FLOOR_DECIBELS * -1 + 1) * 255).astype(np.uint8)[None]


def mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def hertz(mels: np.ndarray) -> np.ndarray:
    return 700 * (10 ** (mels / 2595) - 1)


def resampled(sound: np.ndarray, rate: int, to: int) -> np.ndarray:
    """(n,) at a rate -> (ceil(n * to / rate),), low-pass filtered"""
    if rate == to:
        return sound
    from scipy.signal import resample_poly

    common = math.gcd(rate, to)
    return resample_poly(sound, to // common, rate // common)
