"""One plot of a comparison with its caption, and the words that all captions share."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kdx.core.metric import Metric
from kdx.report.compare.compare import Comparison
from kdx.report.compare.entries import Entry
from kdx.report.compare.groups import Group
from kdx.report.compare.svg import GROUP_COLOURS

MOST_LINES = 8
"""In one plot; more cannot be distinguished."""
MOST_NUMBERED = 12
"""Rows whose numbers are written beside what is drawn of them."""


@dataclass(frozen=True)
class Plot:
    """key: (number of a colour, words) of each line, for a legend below;
    empty where the plot says it itself.
    """

    title: str
    caption: str
    svg: str
    key: Sequence[tuple[int, str]] = ()


def upright_axis(axis: Any, words: str, metric: Metric) -> None:
    """Titles the axis of a plot that is drawn, and ends it where the metric's values end. words: what it
    shows, in the metric's unit.
    """
    axis.set_ylabel(words if metric.more else f"{words} (less is better)")
    low, high = axis.get_ylim()
    room = 0.02 * (high - low)
    if metric.low is not None:
        low = max(low, metric.low * metric.scale - room)
    if metric.high is not None:
        high = min(high, metric.high * metric.scale + room)
    axis.set_ylim(low, high)


def group_key(groups: Sequence[tuple[int, Group]]) -> list[tuple[int, str]]:
    return [(i % GROUP_COLOURS, f"{i + 1}  {g.name}") for i, g in groups]


def errors(groups: Sequence[Group]) -> list[list[float]]:
    """How far the ends of each interval lie below and above the mean; nothing for a single seed."""
    ends = [g.interval or (g.test.mean, g.test.mean) for g in groups]
    below = [g.test.mean - low for g, (low, _) in zip(groups, ends, strict=True)]
    return [below, [high - g.test.mean for g, (_, high) in zip(groups, ends, strict=True)]]


def seeds(groups: Sequence[Group]) -> str:
    """ "5 seeds", "3 to 5 seeds" """
    low, high = min(g.test.n for g in groups), max(g.test.n for g in groups)
    return f"{high} {'seed' if high == 1 else 'seeds'}" if low == high else f"{low} to {high} seeds"


def left_out(all_of: Sequence[Any], most: int, what: str = "rows") -> str:
    return f" Only the first {most} of {len(all_of)} {what} are drawn." if len(all_of) > most else ""


def entries(found: Comparison) -> Iterator[Entry]:
    for g in found.groups:
        yield from g.entries


def of_several_seeds(groups: Sequence[Group]) -> bool:
    """Whether any row has several seeds."""
    return any(g.test.n > 1 for g in groups)


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
