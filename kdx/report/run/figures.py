"""Charts of a run as PNG bytes: matrices, curves, bars."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kdx.core.errors import UserError
from kdx.core.metric import Metric
from kdx.core.roles import ROLES, Role
from kdx.report.run.canvas import RIGHT, UNCHECKED, WRONG, Axes, font, png, shorten, ticks, upright
from kdx.report.run.closer import closer, cut_to

_Cell = tuple[float, str, str]
"""Of a matrix: its shade from 0 to 1, what is written there ("": nothing), in which colour."""


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
    from PIL import Image, ImageDraw

    square = min(max(560 // max(len(rows), len(columns)), 6), 120)
    beside, below = ([shorten(str(name), 14) for name in names] for names in (rows, columns))
    margin, foot = (50 + max(round(font(13).getlength(name)) for name in names) for names in (beside, below))
    right, end = margin + square * len(columns), 50 + square * len(rows)
    canvas = Image.new("RGB", (max(right + 20, 420), end + foot), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((canvas.width / 2, 24), title, fill="black", font=font(15), anchor="mm")
    low, high = np.array([247, 251, 255]), np.array([8, 48, 107])
    for i, j in np.ndindex(len(rows), len(columns)):
        shade, words, colour = of(i, j)
        corner = (margin + j * square, 50 + i * square)
        fill = tuple(np.rint(low + (high - low) * shade).astype(int).tolist())
        draw.rectangle((*corner, corner[0] + square - 1, corner[1] + square - 1), fill=fill)
        if words and square >= 24:
            spot = (corner[0] + square / 2, corner[1] + square / 2)
            draw.text(spot, words, fill=colour, font=font(14 if square >= 40 else 10), anchor="mm")
    draw.rectangle((margin - 1, 49, right, end), outline="#888888")
    step = -(-16 // square)  # of many names only some have room
    for i in range(0, len(rows), step):
        draw.text((margin - 8, 50 + (i + 0.5) * square), beside[i], fill=RIGHT, font=font(13), anchor="rm")
    for j in range(0, len(columns), step):
        spot = (margin + (j + 0.5) * square, end + 8)
        upright(canvas, spot, below[j], turned=max(map(len, below)) > 2)
    upright(canvas, (18, (50 + end) / 2), sides[0], turned=True, centred=True)
    draw.text(((margin + right) / 2, end + foot - 16), sides[1], fill="black", font=font(13), anchor="mm")
    return png(canvas)


def draw_curves(
    series: Mapping[str, Sequence[tuple[int, float]]],
    title: str,
    scale: float = 1,
    known: Mapping[str, Role] = ROLES,
) -> bytes:
    """One line a role over the steps of its own training. series[role]: (step, value) pairs. scale: what a
    value is multiplied by to be shown.
    """
    roles = [role for role in known if series.get(role)]
    lines = {role: [(step, scale * value) for step, value in series[role]] for role in roles}
    xs = [step for line in lines.values() for step, _ in line]
    low, high, cut = closer(list(lines.values()))
    below = "optimiser step (values of the first steps lie outside)" if cut else "optimiser step"
    axes = Axes(ticks(min(xs), max(xs)), ticks(low, high), title, below)
    for role in roles:
        colour = known[role].colour
        for part in cut_to(lines[role], axes.y[0], axes.y[-1]):
            axes.line(part, colour)
        axes.draw.circle(axes.spot(*lines[role][-1]), 7, fill=colour)
    fits = axes.fits([known[role].words for role in roles])
    axes.keys([(known[role].words if fits else known[role].short, known[role].colour, 6) for role in roles])
    return axes.png()


def draw_lines(data: Mapping[str, Any], title: str, colour: str) -> bytes:
    """data: {"lines": {words: {"x", "y"}}, "points": words of those drawn as points that nothing joins,
    "below": what x is}. The first line has the colour.
    """
    lines = {
        words: list(zip(line["x"], line["y"], strict=True))
        for words, line in data["lines"].items()
        if line["x"]
    }
    xs, ys = zip(*(point for line in lines.values() for point in line), strict=True)
    axes = Axes(ticks(min(xs), max(xs)), ticks(min(ys), max(ys)), title, str(data.get("below") or ""))
    colours = [colour, *(role.colour for role in ROLES.values() if role.colour != colour)]
    for i, (words, line) in enumerate(lines.items()):
        draw = axes.points if words in data.get("points", ()) else axes.line
        draw(line, colours[i % len(colours)])
    axes.keys([(w, colours[i % len(colours)], 6) for i, w in enumerate(lines)], data.get("points", ()))
    return axes.png()


def draw_bars(
    values: Mapping[str, Mapping[str, float]],
    title: str,
    counts: Metric,
    known: Mapping[str, Role] = ROLES,
) -> bytes:
    """A group of bars for each name, one bar a role, with its figure above it. values[name][role]: of a
    metric.
    """
    from PIL import Image, ImageDraw

    roles = [role for role in known if any(role in of for of in values.values())]
    bar, left, top, bottom = 30, 60, 80, 330
    wide = bar * len(roles) + 26
    canvas = Image.new("RGB", (max(left + wide * len(values) + 20, left + 150 * len(roles)), 370), "white")
    draw = ImageDraw.Draw(canvas)
    marks = _marks(counts, [value for of in values.values() for value in of.values()])
    low, high = marks[0] / counts.scale, marks[-1] / counts.scale

    def height(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    for y in marks:
        line = height(y / counts.scale)
        draw.line((left, line, canvas.width - 20, line), fill="#e4e4e4")
        draw.text((left - 8, line), f"{y:g}", fill=RIGHT, font=font(12), anchor="rm")
    ground = height(min(max(low, 0), high))
    for i, (name, of) in enumerate(values.items()):
        start = left + 13 + wide * i
        for k, role in enumerate(roles):
            if role in of:
                tip = height(of[role])
                box = (start + bar * k, min(tip, ground), start + bar * (k + 1) - 3, max(tip, ground))
                draw.rectangle(box, fill=known[role].colour)
                words = f"{counts.scale * of[role]:.{max(counts.digits - 1, 0)}f}"
                spot = (start + bar * (k + 0.5) - 1, tip - 8)
                draw.text(spot, words, fill=RIGHT, font=font(11), anchor="mm")
        spot = (start + bar * len(roles) / 2, bottom + 16)
        draw.text(spot, shorten(name, wide // 8), fill=RIGHT, font=font(13), anchor="mm")
    for k, role in enumerate(roles):
        draw.rectangle((left + 150 * k, 44, left + 150 * k + 14, 58), fill=known[role].colour)
        draw.text((left + 150 * k + 20, 51), known[role].short, fill=RIGHT, font=font(12), anchor="lm")
    draw.text((canvas.width / 2, 22), title, fill="black", font=font(15), anchor="mm")
    return png(canvas)


def _marks(counts: Metric, values: Sequence[float]) -> list[float]:
    """Ticks of an axis, as they are shown: the metric's whole range where it has two ends, else from 0 on."""
    low = min(0, *values) if counts.low is None or counts.high is None else counts.low
    high = max(0, *values) if counts.low is None or counts.high is None else counts.high
    return ticks(counts.scale * low, counts.scale * high)


def bars(
    histogram: Mapping[str, Any], title: str, colour: str | None = None, below: str | None = None
) -> bytes:
    """A histogram, {"edges", "counts", "right" or absent}: each bar's right labels below its wrong ones,
    where the truth is known; without it no colour says that a label is right.
    """
    from PIL import Image, ImageDraw

    edges, counts = histogram["edges"], histogram["counts"]
    right = histogram.get("right")
    colour = colour or (UNCHECKED if right is None else ROLES["student"].colour)
    y_ticks = ticks(0, max(*counts, 1))
    left, top, end, bottom = 70, 70, 690, 330
    canvas = Image.new("RGB", (720, 380), "white")
    draw = ImageDraw.Draw(canvas)
    height = (bottom - top) / y_ticks[-1]
    for y in y_ticks:
        draw.line((left, bottom - y * height, end, bottom - y * height), fill="#e4e4e4")
        draw.text((left - 8, bottom - y * height), f"{y:,g}", fill=RIGHT, font=font(12), anchor="rm")
    width = (end - left) / len(counts)
    for i, count in enumerate(counts):
        box = (left + i * width + 2, left + (i + 1) * width - 2)
        good = count if right is None else right[i]
        if count:
            draw.rectangle((box[0], bottom - count * height, box[1], bottom), fill=WRONG)
        if good:
            draw.rectangle((box[0], bottom - good * height, box[1], bottom), fill=colour)
    for i, words in spaced_labels([f"{edge:.3g}" for edge in edges], width):
        draw.text((left + i * width, bottom + 14), words, fill=RIGHT, font=font(12), anchor="mm")
    for i, (words, shade) in enumerate([("right", colour), ("wrong", WRONG)] if right is not None else []):
        draw.rectangle((left + 90 * i, 44, left + 90 * i + 14, 58), fill=shade)
        draw.text((left + 90 * i + 20, 51), words, fill=RIGHT, font=font(12), anchor="lm")
    draw.text((canvas.width / 2, 22), title, fill="black", font=font(15), anchor="mm")
    spot = ((left + end) / 2, 364)
    draw.text(spot, below or "labels in each range of the value", fill="black", font=font(13), anchor="mm")
    return png(canvas)


def spaced_labels(labels: Sequence[str], width: float) -> list[tuple[int, str]]:
    """Every label, or every second or third one and so on, so that none touches the next: (its place, it);
    they are so far apart.
    """
    most = max((font(12).getlength(words) for words in labels), default=0.0) + 6
    step = max(1, math.ceil(most / width))
    return list(enumerate(labels))[::step]


def draw_ranked(data: Mapping[str, Any], title: str, colour: str) -> bytes:
    """data: {"names", "values": a number from 0 on for each, "below": what they are}. A line for each, from
    the top down.
    """
    from PIL import Image, ImageDraw

    names = [shorten(str(name), 48) for name in data["names"]]
    left = 30 + max((round(font(13).getlength(name)) for name in names), default=0)
    canvas = Image.new("RGB", (left + 360, 90 + 24 * len(names)), "white")
    draw = ImageDraw.Draw(canvas)
    most = max((*data["values"], 0)) or 1
    for i, (name, value) in enumerate(zip(names, data["values"], strict=True)):
        top = 50 + 24 * i
        draw.text((left - 8, top + 9), name, fill=RIGHT, font=font(13), anchor="rm")
        draw.rectangle((left, top, left + 280 * max(value, 0) / most, top + 18), fill=colour)
        draw.text(
            (left + 280 * max(value, 0) / most + 8, top + 9),
            f"{value:,.4g}",
            fill=RIGHT,
            font=font(12),
            anchor="lm",
        )
    draw.text((canvas.width / 2, 24), title, fill="black", font=font(15), anchor="mm")
    spot = (left + 140, canvas.height - 22)
    draw.text(spot, str(data.get("below") or ""), fill="black", font=font(13), anchor="mm")
    return png(canvas)


def draw_figure(figure: Mapping[str, Any], title: str, colour: str) -> bytes:
    """A figure that a task makes, by its kind; what its data hold: docs/run-json.md. colour: of its bars and
    of its first line.
    """
    data = figure["data"]
    if figure["kind"] == "matrix":
        return draw_matrix(data, title)
    if figure["kind"] == "line":
        return draw_lines(data, title, colour)
    if figure["kind"] == "bars":
        return bars(data, title, colour, str(data.get("below") or "rows in each range of the value"))
    if figure["kind"] == "ranked":
        return draw_ranked(data, title, colour)
    raise UserError(f"A figure is of kind ranked, matrix, bars or line, and not {figure['kind']!r}")
