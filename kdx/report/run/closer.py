"""Curves looked at where they differ: the first steps of a training, far from all that comes after, would
take most of a plot's height. Pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence

BEGINNING = 0.2
"""The part of a training whose values may lie outside of a plot, so that its end is seen closely."""

Line = Sequence[tuple[float, float]]
"""(step, value) pairs, in order."""


def after_beginning(values: Sequence[float]) -> list[float]:
    """Those after the first steps."""
    return list(values[int(BEGINNING * len(values)) :])


def closer(lines: Sequence[Line]) -> tuple[float, float, bool]:
    """(lowest, highest value that a plot should show, whether the beginnings are left out): they are if what
    the lines reach after them takes less than half of the height."""
    whole = [value for line in lines for _, value in line]
    reached = [value for line in lines for value in after_beginning([value for _, value in line])]
    if 0 < max(reached) - min(reached) < (max(whole) - min(whole)) / 2:
        return min(reached), max(reached), True
    return min(whole), max(whole), False


def cut_between(line: Line, low: float, high: float) -> list[list[tuple[float, float]]]:
    """The parts of a line with values in [low, high], cut where it crosses these."""
    parts: list[list[tuple[float, float]]] = [[]]
    for (x, y), (to_x, to_y) in zip(line, line[1:], strict=False):
        rise = to_y - y
        ends = sorted((edge - y) / rise for edge in (low, high)) if rise else [0.0, float(low <= y <= high)]
        begin, end = max(ends[0], 0.0), min(ends[1], 1.0)
        if begin >= end:
            continue
        first, last = ((x + part * (to_x - x), y + part * rise) for part in (begin, end))
        if not parts[-1] or parts[-1][-1] != first:
            parts.append([first])
        parts[-1].append(last)
    return [part for part in parts if len(part) > 1]
