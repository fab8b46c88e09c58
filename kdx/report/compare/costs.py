"""The plots of a comparison that hold the metric against size and speed."""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdx.report.compare.axes import (
    MOST_NUMBERED,
    Plot,
    entries,
    errors,
    of_several_seeds,
    seeds,
    spaced,
    upright_axis,
)
from kdx.report.compare.compare import Comparison, level
from kdx.report.compare.groups import Group
from kdx.report.compare.svg import INK, PAPER, colour, panels, svg

COSTS = (
    ("parameters", "parameters", 1.0),
    ("flops", "MFLOPs an example", 1e6),
    ("latency_ms", "latency, ms an example", 1.0),
)


def cost(found: Comparison) -> Iterator[Plot | None]:
    """The metric against parameters, FLOPs and latency."""
    used = [(key, words, unit) for key, words, unit in COSTS if len(_places(found, key)) > 1]
    if len(set(map(_size, found.groups))) < 2 or not used:
        return
    figure, axes = panels(len(used), height=3.2, share_y=True)
    later = []  # the height of all is known when all is drawn
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
                if (alone := level(found, g, "baseline")) is not None:
                    axis.plot(
                        x / unit, alone, marker="o", ms=5, color=colour(i), mfc=PAPER, mew=1.2, ls="none"
                    )
        for x, y in _teachers(found, key):
            axis.plot(x / unit, y, marker="*", ms=10, color=INK, ls="none")
        # keeps the axis so wide
        axis.plot([low / unit, high / unit], [found.groups[0].test.mean] * 2, alpha=0)
        axis.set_xscale("log")
        axis.margins(x=0.2, y=0.12)
        logarithmic(axis)
        axis.set_xlabel(words)
        spots = [x and (x / unit, g.test.mean) for g, x in zip(found.groups, places, strict=True)]
        later.append((axis, {i: spot for i, spot in enumerate(spots) if spot}))
    if len(found.groups) <= MOST_NUMBERED:
        for axis, spots in later:
            _number(axis, spots)
    upright_axis(axes[0], found.metric.heading, found.metric)
    numbered = "; the number is the row's" if len(found.groups) <= MOST_NUMBERED else ""
    mean = f"its mean over {seeds(found.groups)}" if of_several_seeds(found.groups) else "of one seed"
    interval = " with the 95% interval" if any(g.interval for g in found.groups) else ""
    yield Plot(
        f"{_called(found)} against size and speed",
        f"Each dot is a row of the table, {mean}{interval}{numbered}; the hollow dot in its colour is the "
        f"{found.called('baseline').words}. A star is a teacher. Students of one size are moved apart a "
        "little. Latency is of one "
        "example on the machine of each run. The horizontal axes are logarithmic.",
        svg(figure, html.escape(f"{found.metric.title} against parameters, FLOPs and latency")),
    )


def _size(g: Group) -> tuple[float | None, ...]:
    """Of a row's students; of those without parameters, as they are fitted at once, their latency."""
    size = g.mean("student", "parameters"), g.mean("student", "flops")
    latency = g.mean("student", "latency_ms")
    return size if any(size) or not latency else (float(f"{latency:.1g}"),)


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


def _apart(places: Sequence[float | None], by: float) -> list[float | None]:
    """The same, those that are equal moved a little by a factor,
    so that their intervals can be distinguished.
    """
    found = []
    for i, x in enumerate(places):
        alike = [j for j, y in enumerate(places) if y == x]
        found.append(x and x * by ** (alike.index(i) - (len(alike) - 1) / 2))
    return found


def _number(axis: Any, spots: Mapping[int, tuple[float, float]]) -> None:
    """The number of each row beside its dot, left and right by turns, none upon another."""
    low, high = axis.get_ylim()
    for right in (False, True):
        rows = [i for i in spots if i % 2 == right]
        heights = spaced([spots[i][1] for i in rows], 0.06 * (high - low))
        for i, height in zip(rows, heights, strict=True):
            axis.annotate(
                str(i + 1),
                (spots[i][0], height),
                xytext=(7 if right else -7, 4),
                textcoords="offset points",
                ha="left" if right else "right",
                color=colour(i),
            )


def logarithmic(axis: Any) -> None:
    """The horizontal axis, with plain numbers at 1, 2, 5, 10, 20 ..., closer in a narrow range."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    axis.set_xscale("log")
    low, high = axis.get_xlim()
    if high / low < 10:  # matplotlib's own choice is too close there
        steps = (
            (1, 2, 5)
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
