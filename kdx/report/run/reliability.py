"""Reliability as a picture: what a network's confidence was worth, and the teacher's accuracy by margin with
what a method has fitted to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from kdx.core.roles import ROLES
from kdx.report.run.canvas import Axes, Legend

DRAWN = {
    "floor": ("its floor", "#b0b0b0", 2),
    "alpha": ("alpha", "#ebaf8b", 8),
    "isotonic": ("isotonic fit", "#a3360f", 2.5),
}
"""What is drawn, the lowest first, of curves `margin/...`: words, colour and width. Alpha is broad, as it
lies under the fit above its floor.
"""
SHARES, DIAGONAL = "#e9e9e9", "#9a9a9a"
_SHARES = Legend("% of the answers", "#d4d4d4", 10)
_ACROSS, _UP = [i / 5 for i in range(6)], [0, 20, 40, 60, 80, 100]
INSET = 0.004
"""What the bar of a bin is shorter at each end, so that neighbours at one height can be distinguished."""


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """Wilson's interval of one standard error around right / count, count >= 1: it has a width even where all
    or none are right.
    """
    share = right / count
    middle = (share + 1 / (2 * count)) / (1 + 1 / count)
    half = math.sqrt(share * (1 - share) / count + 1 / (4 * count**2)) / (1 + 1 / count)
    return middle - half, middle + half


def draw_reliability(
    margins: Mapping[str, Sequence[float]], curves: Mapping[str, Mapping[str, Sequence[float]]], title: str
) -> bytes:
    """margins: {"edges", "counts", "right"} of the validation rows, bins from 0 to 1. curves: name -> {"x",
    "y"}, all within [0, 1].

    A flat bar is a bin's accuracy, an upright one its standard error (see `wilson_interval`); a grey one the
    share of the rows in it.
    """
    drawn = {name: about for name, about in DRAWN.items() if f"margin/{name}" in curves}
    colour = ROLES["teacher"].colour
    keys = [
        Legend("accuracy (%)", colour, 5),
        *(Legend(*about) for about in reversed(drawn.values())),
        _SHARES,
    ]
    axes = Axes(_ACROSS, _UP, title, "margin: first minus second probability", keys)
    edges, counts = margins["edges"], margins["counts"]
    _draw_shares(axes, edges, counts)
    for name, (_, shade, width) in drawn.items():
        curve = curves[f"margin/{name}"]
        axes.curve([(x, 100 * y) for x, y in zip(curve["x"], curve["y"], strict=True)], shade, width)
    for low, high, count, right in zip(edges[:-1], edges[1:], counts, margins["right"], strict=True):
        if count:
            middle, level = (low + high) / 2, 100 * right / count
            axes.curve([(middle, 100 * end) for end in wilson_interval(right, count)], colour, 2)
            axes.curve([(low + INSET, level), (high - INSET, level)], colour, 5)
    return axes.png()


def diagram(bins: Mapping[str, Sequence], title: str, colour: str) -> bytes:
    """bins: {"edges", "counts", "confidence", "right"} of run.json. A dot is a bin's accuracy over its mean
    confidence, with its standard error (see `wilson_interval`); on the diagonal a network is as often right
    as it is sure. Grey bars: the share of the rows in each bin."""
    keys = [Legend("accuracy (%)", colour, 5), Legend("as sure as right", DIAGONAL, 2), _SHARES]
    axes = Axes(_ACROSS, _UP, title, "confidence (mean of each bin)", keys)
    _draw_shares(axes, bins["edges"], bins["counts"])
    axes.curve([(0, 0), (1, 100)], DIAGONAL, 2)
    # None: not finite
    filled = [
        bin
        for bin in zip(bins["confidence"], bins["counts"], bins["right"], strict=True)
        if bin[1] and bin[0] is not None
    ]
    spots = [(confidence, 100 * right / count) for confidence, count, right in filled]
    axes.curve(spots, colour, 2)
    for confidence, count, right in filled:
        axes.curve([(confidence, 100 * end) for end in wilson_interval(right, count)], colour, 2)
    axes.dots(spots, colour, 5)
    return axes.png()


def _draw_shares(axes: Axes, edges: Sequence[float], counts: Sequence[int]) -> None:
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        if count:
            axes.block((low + INSET, 100 * count / sum(counts)), (high - INSET, 0), SHARES)
