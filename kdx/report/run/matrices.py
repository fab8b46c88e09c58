"""Matrices of a run as PNG bytes: confusion, and those that a task makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kdx.core.errors import UserError
from kdx.report.run.canvas import (
    RIGHT,
    TALL,
    TEXT_SIZE,
    WIDE,
    WRONG,
    Canvas,
    cut_to,
    spaced_labels,
    text_width,
    title_lines,
)

_Cell = tuple[float, str, str]
"""Of a matrix: its shade from 0 to 1, what is written there ("": nothing), in which colour."""
_NAME, _TURNED, _WIDEST, _LEAST = 110, 84, 100, 16
"""Units that a name may have, one that is turned, that a cell may be wide, and that a row with figures in it
is high."""
_FIGURED = 16
"""Rows up to which the picture grows for the sake of their figures."""


def draw_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> bytes:
    """Rows are the truth, columns the prediction; colours are shares of a row. Counts are written where there
    is room for them.
    """
    import numpy as np

    counts = np.asarray(matrix, dtype=float)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.shape[0] != len(classes):
        raise UserError(
            f"A confusion matrix of {len(classes)} classes is {len(classes)} by {len(classes)}; "
            f"this one is {counts.shape}"
        )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def of(i: int, j: int) -> _Cell:
        colour = "white" if shares[i, j] > 0.5 else (RIGHT if i == j else WRONG)
        return shares[i, j], f"{counts[i, j]:.0f}" if counts[i, j] else "", colour

    return _draw_cells(of, classes, classes, title, ("truth", "prediction"))


def draw_matrix(data: Mapping[str, Any], title: str) -> bytes:
    """data: {"rows", "columns": names, "values": one list a row, "beside", "below": what rows and columns
    are}. The darkest cell is the largest.
    """
    import numpy as np

    values = np.asarray(data["values"], dtype=float).reshape(len(data["rows"]), len(data["columns"]))
    spread = float(values.max() - values.min()) or 1.0
    shades = (values - values.min()) / spread

    def of(i: int, j: int) -> _Cell:
        return shades[i, j], f"{values[i, j]:.3g}", "white" if shades[i, j] > 0.5 else RIGHT

    sides = (str(data.get("beside") or ""), str(data.get("below") or ""))
    return _draw_cells(of, data["rows"], data["columns"], title, sides)


def _draw_cells(
    of: Callable[[int, int], _Cell],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    sides: tuple[str, str],
) -> bytes:
    """of: what is in row i, column j. sides: what the rows are, what the columns are."""
    import numpy as np

    beside, below = [cut_to(str(name), _NAME) for name in rows], [cut_to(str(n), _TURNED) for n in columns]
    left = (34 if sides[0] else 8) + max(map(text_width, beside))
    wide = min((WIDE - left - 16) / len(columns), _WIDEST)
    left += (WIDE - 16 - left - wide * len(columns)) / 2
    longest = max(map(text_width, below))
    turned = longest > wide - 4
    foot = 38 + (longest if turned else TEXT_SIZE)
    head = 12 + 20 * len(title_lines(title, WIDE))
    tall = max((TALL - head - foot) / len(rows), _LEAST if len(rows) <= _FIGURED else 120 / len(rows))
    canvas = Canvas(WIDE, head + tall * len(rows) + foot, title)
    right, end = left + wide * len(columns), head + tall * len(rows)
    low, high = np.array([247, 251, 255]), np.array([8, 48, 107])
    for i, j in np.ndindex(len(rows), len(columns)):
        shade, words, colour = of(i, j)
        corner = (left + j * wide, head + i * tall)
        fill = tuple(np.rint(low + (high - low) * shade).astype(int).tolist())
        canvas.bar(corner, (corner[0] + wide, corner[1] + tall), fill)
        if words and tall >= _LEAST and text_width(words) <= wide - 1:
            canvas.text((corner[0] + wide / 2, corner[1] + tall / 2), words, colour=colour)
    canvas.bar((left - 1, head - 1), (right + 1, end + 1), None, "#888888")
    for i in range(0, len(rows), math.ceil(_LEAST / tall)):  # of many names only some have room
        canvas.text((left - 6, head + (i + 0.5) * tall), beside[i], anchor="rm")
    if turned:
        for j in range(0, len(columns), math.ceil(_LEAST / wide)):
            canvas.upright((left + (j + 0.5) * wide, end + 6), below[j])
    else:
        for j, words in spaced_labels(below, wide + 4):
            canvas.text((left + (j + 0.5) * wide, end + 14), words)
    canvas.upright((12, (head + end - text_width(sides[0])) / 2), sides[0])
    canvas.text(((left + right) / 2, end + foot - 14), sides[1], colour="black")
    return canvas.png()
