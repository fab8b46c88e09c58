"""Charts of a run as PNG bytes: curves, bars, and whatever figure a task makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdx.core.errors import UserError
from kdx.core.metric import Metric
from kdx.core.roles import ROLES, Role
from kdx.report.run.canvas import (
    FAINT,
    TEXT_SIZE,
    UNCHECKED,
    WIDE,
    WRONG,
    Axes,
    Canvas,
    Legend,
    cut_to,
    key_rows,
    text_width,
    ticks,
    title_lines,
)
from kdx.report.run.closer import closer, cut_between
from kdx.report.run.matrices import draw_matrix

_BAR, _APART = 18, 8
"""Units from a bar that lies to the next, and between groups of them."""
_NAME = 190
"""Units that a name may have beside its bar; longer ones stand above it."""


def role_keys(roles: Sequence[str], known: Mapping[str, Role], width: float = 3) -> list[Legend]:
    """What the lines of those roles mean, in few words where they would not fit into a row."""
    keys = [Legend(known[role].words, known[role].colour, width) for role in roles]
    if len(key_rows(keys, WIDE)) == 1:
        return keys
    return [Legend(known[role].short, known[role].colour, width) for role in roles]


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
    axes = Axes(ticks(min(xs), max(xs)), ticks(low, high), title, below, role_keys(roles, known))
    for role in roles:
        for part in cut_between(lines[role], axes.y[0], axes.y[-1]):
            axes.curve(part, known[role].colour)
        axes.dots(lines[role][-1:], known[role].colour, 4)
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
    colours = [colour, *(role.colour for role in ROLES.values() if role.colour != colour)]
    keys = [
        Legend(words, colours[i % len(colours)], dot=words in data.get("points", ()))
        for i, words in enumerate(lines)
    ]
    across, up = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))
    axes = Axes(across, up, title, str(data.get("below") or ""), keys)
    for key, line in zip(keys, lines.values(), strict=True):
        (axes.dots if key.dot else axes.curve)(line, key.colour)
    return axes.png()


def draw_bars(
    values: Mapping[str, Mapping[str, float]],
    title: str,
    counts: Metric,
    known: Mapping[str, Role] = ROLES,
) -> bytes:
    """A group of bars for each name, one bar a role, with its figure behind it. values[name][role]: of a
    metric.
    """
    roles = [role for role in known if any(role in of for of in values.values())]
    keys = role_keys(roles, known, 10)
    names = {name: cut_to(name, _NAME) for name in values}
    left, right = 14 + max(map(text_width, names.values())), WIDE - 60
    marks = _marks(counts, [value for of in values.values() for value in of.values()])
    low, high = marks[0] / counts.scale, marks[-1] / counts.scale
    rows = sum(len(of) for of in values.values())
    head = 16 + 20 * (len(title_lines(title, WIDE)) + len(key_rows(keys, WIDE)))
    end = head + _BAR * rows + _APART * len(values)
    canvas = Canvas(WIDE, end + 28, title, keys)

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    for mark in marks:
        canvas.line([(place(mark / counts.scale), head), (place(mark / counts.scale), end)], FAINT, 1)
        canvas.text((place(mark / counts.scale), end + 14), f"{mark:g}")
    ground, top = place(min(max(low, 0), high)), head + _APART / 2
    for name, of in values.items():
        canvas.text((left - 6, top + _BAR * len(of) / 2), names[name], anchor="rm")
        for role in (role for role in roles if role in of):
            tip = place(of[role])
            canvas.bar((ground, top + 1), (tip, top + _BAR - 1), known[role].colour)
            words = f"{counts.scale * of[role]:.{max(counts.digits - 1, 0)}f}"
            canvas.text((max(tip, ground) + 4, top + _BAR / 2), words, anchor="lm")
            top += _BAR
        top += _APART
    return canvas.png()


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
    edges, counts = histogram["edges"], histogram["counts"]
    right = histogram.get("right")
    colour = colour or (UNCHECKED if right is None else ROLES["student"].colour)
    keys = [Legend("right", colour, 10), Legend("wrong", WRONG, 10)] if right is not None else []
    axes = Axes(
        range(len(edges)),
        ticks(0, max(*counts, 1)),
        title,
        below or "labels in each range of the value",
        keys,
        [f"{edge:.3g}" for edge in edges],
    )
    for i, count in enumerate(counts):
        if count:
            axes.block((i + 0.04, count), (i + 0.96, 0), WRONG)
        if good := count if right is None else right[i]:
            axes.block((i + 0.04, good), (i + 0.96, 0), colour)
    return axes.png()


def draw_ranked(data: Mapping[str, Any], title: str, colour: str) -> bytes:
    """data: {"names", "values": a number from 0 on for each, "below": what they are}. A line for each, from
    the top down.
    """
    longest = max((text_width(str(name)) for name in data["names"]), default=0)
    above = longest > _NAME
    names = [cut_to(str(name), WIDE - 24 if above else _NAME) for name in data["names"]]
    left = 12 if above else 16 + longest
    apart, head = (
        2 * TEXT_SIZE + 14 if above else TEXT_SIZE + 8,
        12 + 20 * len(title_lines(title, WIDE)),
    )
    canvas = Canvas(WIDE, head + apart * len(names) + 30, title)
    most = max((*data["values"], 0)) or 1
    for i, (name, value) in enumerate(zip(names, data["values"], strict=True)):
        middle = head + apart * (i + 1) - TEXT_SIZE / 2 - 4
        tip = left + (WIDE - 76 - left) * max(value, 0) / most
        spot = (left, middle - TEXT_SIZE - 4) if above else (left - 6, middle)
        canvas.text(spot, name, anchor="lm" if above else "rm")
        canvas.bar((left, middle - TEXT_SIZE / 2), (tip, middle + TEXT_SIZE / 2), colour)
        canvas.text((tip + 6, middle), f"{value:,.4g}", anchor="lm")
    canvas.text((WIDE / 2, canvas.height - 14), str(data.get("below") or ""), colour="black")
    return canvas.png()


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
