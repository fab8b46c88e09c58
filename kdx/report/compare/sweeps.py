"""Plots of a comparison over a number that was swept: labels, pool, budget, or any key."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence

from kdx.report.compare.axes import MOST_LINES, Plot, errors, left_out, seeds, upright_axis
from kdx.report.compare.compare import Comparison, level
from kdx.report.compare.entries import Entry
from kdx.report.compare.groups import Group
from kdx.report.compare.protocols import count
from kdx.report.compare.svg import INK, PAPER, colour, panels, svg
from kdx.report.run.names import changed, join

MOST_SWEEPS = 4
_SIZES = {"dataset.labelled": "labelled", "dataset.unlabelled": "unlabelled"}
_WORDS = {
    "dataset.labelled": "labelled examples",
    "dataset.unlabelled": "examples in the pool",
    "budget": "answers bought",
}


def sweeps(found: Comparison) -> Iterator[Plot | None]:
    """The metric against labels, pool or budget, and any other number that was swept."""
    wanted = [key for key in numeric_keys(found) if len(lines_of(found, key)) < len(found.groups)]
    for key in wanted[:MOST_SWEEPS]:
        lines = {name: line for name, line in lines_of(found, key).items() if len({x for x, _ in line}) > 1}
        if not lines:
            continue
        figure, (axis,) = panels(1, height=3.4)
        points = sorted({x for line in lines.values() for x, _ in line})
        wide = points[0] > 0 and points[-1] / points[0] >= 8
        drawn = list(lines.values())[:MOST_LINES]
        for i, line in enumerate(drawn):
            xs, groups = zip(*sorted(line, key=lambda point: point[0]), strict=True)
            xs, means = aside(xs, i - (len(drawn) - 1) / 2, points, wide), [g.test.mean for g in groups]
            axis.errorbar(
                xs,
                means,
                yerr=errors(groups),
                color=colour(i),
                marker="o",
                ms=4,
                lw=1.4,
                elinewidth=1,
                capsize=2,
            )
        alone = alones(found, drawn)
        for line, i in alone.items():
            axis.plot(
                *zip(*line, strict=True),
                color=INK if i is None else colour(i),
                marker="o",
                ms=4,
                mfc=PAPER,
                lw=1,
                ls="--",
            )
        if wide:
            axis.set_xscale("log")
        axis.set_xticks(points if len(points) <= 10 else points[:: -(-len(points) // 10)], labels=None)
        axis.xaxis.set_major_formatter(lambda x, _: f"{x:,g}")
        axis.minorticks_off()
        axis.set_xlabel(_WORDS.get(key, key))
        upright_axis(axis, found.metric.heading, found.metric)
        shown = list(enumerate(lines))[:MOST_LINES]
        dashed = f" Dashed: the {found.called('baseline').words}."
        yield Plot(
            f"Against {_WORDS.get(key, key)}",
            f"Mean on the test split over {seeds(found.groups)}, with the 95% interval."
            f"{dashed if alone else ''}"
            f"{left_out(list(lines), MOST_LINES, 'lines')}",
            svg(figure, html.escape(f"{found.metric.name} against {_WORDS.get(key, key)}")),
            shown if len(lines) > 1 else (),
        )


def aside(xs: Sequence[float], by: float, points: Sequence[float], logarithmic: bool) -> list[float]:
    """Moved a little to the side, so that intervals at one number can be distinguished; by: places, to the
    right where it is positive.
    """
    if logarithmic:
        return [x * (points[-1] / points[0]) ** (0.008 * by) for x in xs]
    return [x + 0.008 * by * (points[-1] - points[0]) for x in xs]


def alones(
    found: Comparison, lines: Sequence[Sequence[tuple[float, Group]]]
) -> dict[tuple[tuple[float, float], ...], int | None]:
    """The student alone along each line, ((number, mean), ...) -> number of the line; None: of several, as
    one student alone serves them all.
    """
    made: dict[tuple[tuple[float, float], ...], int | None] = {}
    for i, line in enumerate(lines):
        points = tuple(
            (x, mean)
            for x, g in sorted(line, key=lambda point: point[0])
            if (mean := level(found, g, "baseline")) is not None
        )
        if points:
            made[points] = None if points in made else i
    return made


def numeric_keys(found: Comparison) -> list[str]:
    """Keys with at least two numbers among the rows, labels, pool and budget first."""
    keys = dict.fromkeys([*_WORDS, *(key for g in found.groups for key in g.words)])
    values = {key: {_place(g.entries[0], key) for g in found.groups} - {None} for key in keys}
    return [key for key, of in values.items() if len(of) > 1]


def _place(entry: Entry, key: str) -> float | None:
    """The number that a run has under a key; sizes and the budget as counted, where they were given as
    shares.
    """
    value = count(entry, _SIZES[key]) if key in _SIZES else entry.everything.get(key)
    if key == "budget" and isinstance(value, float) and isinstance(pool := count(entry, "unlabelled"), int):
        value = round(value * pool)
    return (
        value
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
        else None
    )


def lines_of(found: Comparison, key: str) -> dict[str, list[tuple[float, Group]]]:
    """name -> (number, group) of the groups that differ in `key` only, each such set a line."""
    parts: dict[str, list[tuple[float, Group]]] = {}
    for g in found.groups:
        if (x := _place(g.entries[0], key)) is not None:
            rest = {k: v for k, v in g.entries[0].settings.items() if k != key and not k.endswith(f".{key}")}
            parts.setdefault(json.dumps(rest, sort_keys=True), []).append((x, g))
    firsts = [part[0][1].entries[0] for part in parts.values()]
    words = changed([first.asked for first in firsts])
    plain = [join({k: v for k, v in of.items() if k not in (key, "experiment")}) for of in words]
    for name in {name for name in plain if plain.count(name) > 1}:
        twice = [i for i, of in enumerate(plain) if of == name]
        for i in twice:
            plain[i] = join({k: v for k, v in words[i].items() if k != key})
    return dict(
        zip(
            [name if plain.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(plain, 1)],
            parts.values(),
            strict=True,
        )
    )
