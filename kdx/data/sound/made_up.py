"""Made-up sounds, as short and as unlike as spoken commands are: tones, sweeps and beeps in noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Sound = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""((n,) seconds from its begin, how long it lasts, draws) -> (n,) in [-1, 1]"""


def _low(time: np.ndarray, length: float, random: np.random.Generator) -> np.ndarray:
    return np.sin(2 * np.pi * random.uniform(250, 600) * time)


def _high(time: np.ndarray, length: float, random: np.random.Generator) -> np.ndarray:
    return np.sin(2 * np.pi * random.uniform(900, 2000) * time)


def _sweep(time: np.ndarray, length: float, begin: float, end: float) -> np.ndarray:
    """A pitch that moves evenly from one to the other, in hertz."""
    return np.sin(2 * np.pi * (begin * time + (end - begin) * time**2 / (2 * length)))


def _up(time: np.ndarray, length: float, random: np.random.Generator) -> np.ndarray:
    return _sweep(time, length, random.uniform(250, 600), random.uniform(900, 2000))


def _down(time: np.ndarray, length: float, random: np.random.Generator) -> np.ndarray:
    return _sweep(time, length, random.uniform(900, 2000), random.uniform(250, 600))


def _beeps(time: np.ndarray, length: float, random: np.random.Generator) -> np.ndarray:
    on = (time / length * random.integers(3, 6) * 2).astype(int) % 2 == 0
    return np.sin(2 * np.pi * random.uniform(250, 2000) * time) * on


def _warble(time: np.ndarray, length: float, random: np.random.Generator) -> np.ndarray:
    pitch, depth, beat = random.uniform(500, 1200), random.uniform(80, 200), random.uniform(5, 9)
    return np.sin(2 * np.pi * pitch * time + depth / beat * np.sin(2 * np.pi * beat * time))


SOUNDS: dict[str, Sound] = {
    "beeps": _beeps,
    "down": _down,
    "high": _high,
    "low": _low,
    "up": _up,
    "warble": _warble,
}


def made_up_sound(
    kind: str, rate: int, seconds: float, noise: float, random: np.random.Generator
) -> np.ndarray:
    """(rate * seconds,) float64: one of SOUNDS that lasts 0.3 to 0.7 of it, begins anywhere and is 0.05 to
    0.5 loud, in white noise of a deviation from noise / 4 to noise."""
    time = np.arange(round(rate * seconds)) / rate
    length = seconds * random.uniform(0.3, 0.7)
    begin, loud = random.uniform(0, seconds - length), random.uniform(0.05, 0.5)
    there = (time >= begin) & (time < begin + length)
    sound = loud * SOUNDS[kind](time - begin, length, random) * there
    return np.clip(sound + noise * random.uniform(0.25, 1) * random.standard_normal(len(time)), -1, 1)
