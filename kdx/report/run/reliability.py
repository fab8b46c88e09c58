"""Reliability as a picture: what a network's confidence was worth, and the teacher's accuracy by margin with
what a method has fitted to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from kdx.core.roles import ROLES
from kdx.report.run.canvas import RIGHT, Axes, font

DRAWN = {
    "floor": ("its floor", "#b0b0b0", 4),
    "alpha": ("alpha", "#ebaf8b", 14),
    "isotonic": ("isotonic fit", "#a3360f", 4),
}
"""What is drawn, the lowest first, of curves `margin/...`: words, colour and width. Alpha is broad, as it
lies under the fit above its floor.
"""
NARROW = 480
"""Pixels of the diagram of one network: three stand side by side on a small screen and can be read."""
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

    A flat bar is a bin's accuracy, an upright one its standard error (see `wilson_interval`).
    """
    axes = Axes(
        [i / 10 for i in range(11)],
        [0, 20, 40, 60, 80, 100],
        title,
        "margin of the teacher: first minus second probability (figures: rows)",
    )
    axes.key(0, "accuracy on validation (%)", ROLES["teacher"].colour, 8)
    for name, (words, colour, width) in DRAWN.items():
        if f"margin/{name}" in curves:
            curve = curves[f"margin/{name}"]
            axes.line([(x, 100 * y) for x, y in zip(curve["x"], curve["y"], strict=True)], colour, width)
            axes.key(480 - 125 * list(DRAWN).index(name) + 20, words, colour, width)
    edges = margins["edges"]
    for low, high, count, right in zip(
        edges[:-1], edges[1:], margins["counts"], margins["right"], strict=True
    ):
        middle = (low + high) / 2
        axes.draw.text(
            axes.spot(middle, 4), f"{count:,}", fill=RIGHT if count else "#aaaaaa", font=font(22), anchor="mm"
        )
        if count:
            axes.line(
                [(middle, 100 * end) for end in wilson_interval(right, count)], ROLES["teacher"].colour, 4
            )
            axes.line(
                [(low + INSET, 100 * right / count), (high - INSET, 100 * right / count)],
                ROLES["teacher"].colour,
                8,
            )
    return axes.png()


def diagram(bins: Mapping[str, Sequence], title: str, colour: str) -> bytes:
    """bins: {"edges", "counts", "confidence", "right"} of run.json. A dot is a bin's accuracy over its mean
    confidence, with its standard error (see `wilson_interval`); on the diagonal a network is as often right
    as it is sure. Grey bars: the share of the rows in each bin."""
    across = [i / 10 for i in range(11)]
    axes = Axes(across, [0, 20, 40, 60, 80, 100], title, "confidence (mean of each bin)", NARROW)
    rows = sum(bins["counts"])
    for low, high, count in zip(bins["edges"][:-1], bins["edges"][1:], bins["counts"], strict=True):
        if count:
            axes.draw.rectangle(
                (axes.spot(low + INSET, 100 * count / rows), axes.spot(high - INSET, 0)), fill="#e9e9e9"
            )
    axes.line([(0, 0), (1, 100)], "#9a9a9a", 3)
    # None: not finite
    filled = [
        bin
        for bin in zip(bins["confidence"], bins["counts"], bins["right"], strict=True)
        if bin[1] and bin[0] is not None
    ]
    axes.line([(confidence, 100 * right / count) for confidence, count, right in filled], colour, 3)
    for confidence, count, right in filled:
        axes.line([(confidence, 100 * end) for end in wilson_interval(right, count)], colour, 4)
        axes.draw.circle(axes.spot(confidence, 100 * right / count), 9, fill=colour)
    axes.keys(
        [
            ("accuracy (%)", colour, 8),
            ("as sure as right", "#9a9a9a", 3),
            ("share of rows (%)", "#dcdcdc", 20),
        ]
    )
    return axes.png()
