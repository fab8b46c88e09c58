"""The plots of a comparison, each with a caption that says what it shows and of how many; one with nothing to
show is left out.
"""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from kdx.report.compare.axes import (
    MOST_LINES,
    Plot,
    axis_title,
    entries,
    errors,
    group_key,
    left_out,
    seeds,
)
from kdx.report.compare.calibration import confused_pairs, confusion_matrices, reliability_curves
from kdx.report.compare.compare import Comparison, level
from kdx.report.compare.svg import INK, PAPER, colour, drawing, panels, svg
from kdx.report.compare.sweeps import sweeps

MOST_COLUMNS, MOST_NUMBERED = 30, 12
COSTS = (
    ("parameters", "parameters", 1.0),
    ("flops", "MFLOPs an example", 1e6),
    ("latency_ms", "latency, ms an example", 1.0),
)


def plots(found: Comparison) -> list[Plot]:
    made = []
    kinds = (scatter, cost, sweeps, learning, reliability_curves, confusion_matrices, confused_pairs)
    for number, draw in enumerate(kinds):
        with drawing(f"kdx-{number}"):
            made += [p for p in draw(found) if p]
    return made


def cost(found: Comparison) -> Iterator[Plot | None]:
    """The metric against parameters, FLOPs and latency."""
    used = [(key, words, unit) for key, words, unit in COSTS if len(_places(found, key)) > 1]
    if not used:
        return
    figure, axes = panels(len(used), height=3.2, share_y=True)
    for axis, (key, words, unit) in zip(axes, used, strict=True):
        low, high = reach(
            [
                x
                for x in [
                    *(g.mean("student", key) for g in found.groups),
                    *(x for x, _ in _teachers(found, key)),
                ]
                if x
            ]
        )
        places = _apart(
            [g.mean("student", key) for g in found.groups],
            min(1.07, (high / low) ** (0.15 / len(found.groups))),
        )
        for i, (g, x) in enumerate(zip(found.groups, places, strict=True)):
            if x is not None and x > 0:
                axis.errorbar(
                    x / unit, g.test.mean, yerr=errors([g]), fmt="o", ms=5, color=colour(i), lw=1, capsize=2
                )
                if len(found.groups) <= MOST_NUMBERED:
                    _number(axis, i, (x / unit, g.test.mean))
                if (alone := level(found, g, "baseline")) is not None:
                    axis.plot(
                        x / unit, alone, marker="o", ms=5, color=colour(i), mfc=PAPER, mew=1.2, ls="none"
                    )
        for x, y in _teachers(found, key):
            axis.plot(x / unit, y, marker="*", ms=10, color=INK, ls="none")
            axis.annotate("teacher", (x / unit, y), xytext=(-5, -12), textcoords="offset points", ha="right")
        # keeps the axis so wide
        axis.plot([low / unit, high / unit], [found.groups[0].test.mean] * 2, alpha=0)
        axis.set_xscale("log")
        axis.margins(x=0.2, y=0.12)
        logarithmic(axis)
        axis.set_xlabel(words)
    axes[0].set_ylabel(axis_title(found.metric.heading, found.metric))
    numbered = "; the number is the row's" if len(found.groups) <= MOST_NUMBERED else ""
    yield Plot(
        f"{_called(found)} against size and speed",
        f"Each dot is a row of the table, its mean over {seeds(found.groups)} with the 95% "
        f"interval{numbered}; the hollow dot in its colour is the {found.called('baseline').words}. The "
        "star is the teacher, its mean over all runs. Students of one size are moved apart a little. "
        "Latency is of one "
        "example on the machine of each run. The horizontal axes are logarithmic.",
        svg(figure, html.escape(f"{found.metric.title} against parameters, FLOPs and latency")),
    )


def _called(found: Comparison) -> str:
    """At the head of a plot: the metric that counts by its title, another as over its column."""
    if found.metric.name != found.counts.name:
        return found.metric.heading
    return f"{found.metric.title[:1].upper()}{found.metric.title[1:]}"


def reach(sizes: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest, at least a factor of two apart: a few per cent more of parameters should
    look like a few per cent.
    """
    low, high = min(sizes), max(sizes)
    more = max(1.0, math.sqrt(2 * low / high))
    return low / more, high * more


def _places(found: Comparison, key: str) -> set[float]:
    """The sizes that there are, to three figures: latencies of one network differ by noise."""
    places = [g.mean("student", key) for g in found.groups] + [x for x, _ in _teachers(found, key)]
    return {float(f"{x:.1g}") if key == "latency_ms" else x for x in places if x}


def _teachers(found: Comparison, key: str) -> list[tuple[float, float]]:
    """(size, mean of the metric) of each teacher, known by its number of parameters; those that have none,
    as they are fitted at once, have a place by their latency only, and share it.
    """
    seen: dict[float | None, dict[str, tuple[float, float]]] = {}
    for e in entries(found):
        about = e.networks["teacher"].about if "teacher" in e.networks else {}
        if about.get(key, 0) > 0 and (value := e.score("teacher", found.metric.name)) is not None:
            seen.setdefault(about.get("parameters"), {})[e.keys.get("teacher-pretrain", e.name)] = (
                about[key],
                found.metric.scale * value,
            )
    return [tuple(statistics.fmean(side) for side in zip(*of.values(), strict=True)) for of in seen.values()]


def learning(found: Comparison) -> Iterator[Plot | None]:
    """The metric that counts, on validation, over training, with a band over seeds."""
    shown = [
        (i, g)
        for i, g in enumerate(found.groups)
        if any(len(e.curves.get("student", ())) > 1 for e in g.entries)
    ]
    if not shown:
        return
    figure, (axis,) = panels(1, height=3.6)
    ends = []
    for i, g in shown[:MOST_LINES]:
        curves = [e.curves["student"] for e in g.entries if e.curves.get("student")]
        steps, mean, low, high = band(curves, found.counts.scale)
        axis.plot(steps, mean, color=colour(i), lw=1.6)
        axis.fill_between(steps, low, high, color=colour(i), alpha=0.12, lw=0)
        ends.append((i, steps[-1], mean[-1]))
    low, high = axis.get_ylim()
    for (i, x, _), y in zip(ends, spaced([y for *_, y in ends], 0.05 * (high - low)), strict=True):
        axis.annotate(
            str(i + 1),
            (x, y),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=colour(i),
            annotation_clip=False,
        )
    axis.set_xlabel("optimiser step of the student")
    axis.set_ylabel(axis_title(f"validation {found.counts.labelled}", found.counts))
    groups = [g for _, g in shown[:MOST_LINES]]
    yield Plot(
        "Learning curves",
        f"Validation {found.counts.title} of the student while it trains: the line is the mean over "
        f"{seeds(groups)}, the band goes from the lowest to the highest seed. A line ends where its "
        f"shortest seed ends.{left_out(shown, MOST_LINES)}",
        svg(figure, "learning curves"),
        group_key(shown[:MOST_LINES]),
    )


def band(
    curves: Sequence[Sequence[tuple[int, float]]], scale: float
) -> tuple[list[int], list[float], list[float], list[float]]:
    """(steps, mean, lowest, highest), times the scale, at the steps that every curve has; where they share
    none, those of the first.
    """
    tables = [dict(curve) for curve in curves]
    steps = sorted(set.intersection(*(set(t) for t in tables)))
    if not steps:
        steps, tables = sorted(tables[0]), tables[:1]
    columns = [[scale * t[step] for t in tables] for step in steps]
    return steps, [statistics.fmean(c) for c in columns], [min(c) for c in columns], [max(c) for c in columns]


def scatter(found: Comparison) -> Iterator[Plot | None]:
    """Each seed beside its baseline, or beside the reference's."""
    shown = list(enumerate(found.groups))
    drawn = shown[:MOST_COLUMNS]
    of, scale = found.metric.name, found.metric.scale
    sides = [(i, g, [(e.score("baseline", of), e.score("student", of)) for e in g.entries]) for i, g in drawn]
    figure, (axis,) = panels(1, height=3.4)
    for i, _, pairs in sides:
        for alone, student in ((a and scale * a, scale * s) for a, s in pairs):
            if alone is not None:
                axis.plot([i - 0.17, i + 0.17], [alone, student], color=colour(i), lw=0.9, alpha=0.6)
                axis.plot(i - 0.17, alone, marker="o", ms=4.5, color=colour(i), mfc=PAPER, mew=1.2, ls="none")
            axis.plot(i + 0.17, student, marker="o", ms=4.5, color=colour(i), ls="none")
    for i, g, _ in sides:
        axis.plot([i + 0.26, i + 0.42], [g.test.mean] * 2, color=INK, lw=1.6)
    axis.set_xticks(range(len(drawn)), [str(i + 1) for i, _ in drawn])
    axis.set_xlim(-0.6, len(drawn) - 0.4)
    axis.grid(False, axis="x")
    axis.set_xlabel("row of the table")
    axis.set_ylabel(axis_title(found.metric.heading, found.metric))
    yield Plot(
        "Every seed",
        "A filled dot is a student, the hollow one beside it the "
        f"{found.called('baseline').words}, trained with that "
        "seed and without a teacher; a line joins the two. The short bar is the mean of the students, over "
        f"{seeds([g for _, g in drawn])}.{left_out(shown, MOST_COLUMNS)}",
        svg(figure, "every seed"),
        group_key(drawn) if len(drawn) <= MOST_NUMBERED else (),
    )


def logarithmic(axis: Any) -> None:
    """The horizontal axis, with plain numbers at 1, 2, 5, 10, 20 ..., closer in a narrow range."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    axis.set_xscale("log")
    low, high = axis.get_xlim()
    if high / low < 10:  # matplotlib's own choice is too close there
        steps = (
            (1, 2, 4, 7)
            if high / low > 4
            else (1, 1.5, 2, 3, 4, 5, 7)
            if high / low > 2
            else (1, 1.2, 1.4, 1.7, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9)
        )
        scales = (10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1))
        axis.xaxis.set_major_locator(FixedLocator([step * scale for scale in scales for step in steps]))
    else:
        axis.xaxis.set_major_locator(
            LogLocator(
                subs=(1, 2, 5) if high / low < 30 else (1, 3) if high / low < 300 else (1,), numticks=12
            )
        )
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))


def short(x: float) -> str:
    """50000 -> "50k" """
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if x >= scale:
            return f"{x / scale:g}{unit}"
    return f"{x:g}"


def _apart(places: Sequence[float | None], by: float) -> list[float | None]:
    """The same, those that are equal moved a little by a factor,
    so that their intervals can be distinguished.
    """
    found = []
    for i, x in enumerate(places):
        alike = [j for j, y in enumerate(places) if y == x]
        found.append(x and x * by ** (alike.index(i) - (len(alike) - 1) / 2))
    return found


def spaced(places: Sequence[float], least: float) -> list[float]:
    """The same, moved as far as needed for neighbours to be `least` apart; in their order, about their
    middle.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    found = list(places)
    for before, i in zip(order, order[1:], strict=False):
        found[i] = max(found[i], found[before] + least)
    shift = statistics.fmean(places) - statistics.fmean(found) if found else 0.0
    return [y + shift for y in found]


def _number(axis: Any, i: int, at: tuple[float, float]) -> None:
    axis.annotate(
        str(i + 1),
        at,
        xytext=(6, 4) if i % 2 else (-6, 4),
        textcoords="offset points",
        ha="left" if i % 2 else "right",
        color=colour(i),
    )
