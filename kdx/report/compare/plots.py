"""The plots of a comparison, each with a caption that says what it shows and of how many; one with nothing to
show is left out.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from kdx.report.compare.axes import (
    MOST_LINES,
    MOST_NUMBERED,
    Plot,
    group_key,
    left_out,
    of_several_seeds,
    seeds,
    spaced,
    upright_axis,
)
from kdx.report.compare.calibration import confused_pairs, confusion_matrices, reliability_curves
from kdx.report.compare.compare import Comparison, level
from kdx.report.compare.costs import cost
from kdx.report.compare.groups import Group
from kdx.report.compare.statistics import plus_minus
from kdx.report.compare.svg import INK, PAPER, colour, drawing, panels, svg
from kdx.report.compare.sweeps import sweeps
from kdx.report.run.closer import after_beginning

MOST_COLUMNS = 30


def plots(found: Comparison) -> list[Plot]:
    made = []
    kinds = (scatter, cost, sweeps, learning, reliability_curves, confusion_matrices, confused_pairs)
    for number, draw in enumerate(kinds):
        with drawing(f"kdx-{number}"):
            made += [p for p in draw(found) if p]
    return made


def learning(found: Comparison) -> Iterator[Plot | None]:
    """The metric that counts, on validation, over training, with a band over seeds."""
    shown = [
        (i, g)
        for i, g in enumerate(found.groups)
        if any(len(e.curves.get("student", ())) > 1 for e in g.entries)
    ]
    if not shown:
        return
    figure, (axis,) = panels(1, height=3.4)
    ends, reached = [], []
    for i, g in shown[:MOST_LINES]:
        curves = [e.curves["student"] for e in g.entries if e.curves.get("student")]
        steps, mean, low, high = band(curves, found.counts.scale)
        axis.plot(steps, mean, color=colour(i), lw=1.6)
        axis.fill_between(steps, low, high, color=colour(i), alpha=0.12, lw=0)
        ends.append((i, steps[-1], mean[-1]))
        reached += after_beginning(low) + after_beginning(high)
    cut = _look_closer(axis, reached, found.counts.more)
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
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_xlabel("optimiser step of the student")
    upright_axis(axis, f"validation {found.counts.labelled}", found.counts)
    groups = [g for _, g in shown[:MOST_LINES]]
    lines = (
        f": the line is the mean over {seeds(groups)}, the band goes from the lowest to the highest seed. A "
        "line ends where its shortest seed ends."
        if of_several_seeds(groups)
        else ", of one seed."
    )
    yield Plot(
        "Learning curves",
        f"Validation {found.counts.title} of the student while it trains{lines}"
        f"{' The first steps lie outside.' if cut else ''}{left_out(shown, MOST_LINES)}",
        svg(figure, "learning curves"),
        group_key(shown[:MOST_LINES]),
    )


def _look_closer(axis: Any, reached: Sequence[float], more: bool) -> bool:
    """Leaves out where the curves begin, if what they `reached` takes less than half of the height. Whether
    it did. more: of the metric is better.
    """
    low, high = axis.get_ylim()
    room = max(0.08 * (max(reached) - min(reached)), 0.01 * (high - low))
    if max(reached) - min(reached) > (high - low) / 2:
        return False
    axis.set_ylim(**({"bottom": min(reached) - room} if more else {"top": max(reached) + room}))
    return True


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
        if g.test.n > 1:
            axis.plot([i + 0.26, i + 0.42], [g.test.mean] * 2, color=INK, lw=1.6)
    taught = _draw_teachers(axis, found, [g for _, g in drawn])
    axis.set_xticks(range(len(drawn)), [str(i + 1) for i, _ in drawn])
    axis.set_xlim(-0.6, len(drawn) - 0.4)
    axis.grid(False, axis="x")
    axis.set_xlabel("row of the table")
    upright_axis(axis, found.metric.heading, found.metric)
    groups = [g for _, g in drawn]
    bar = (
        f" The short bar is the mean of the students, over {seeds(groups)}."
        if of_several_seeds(groups)
        else ""
    )
    yield Plot(
        "Every seed" if of_several_seeds(groups) else "Each row",
        "A filled dot is a student, the hollow one beside it the "
        f"{found.called('baseline').words}, trained with that "
        f"seed and without a teacher; a line joins the two.{bar}{taught}{left_out(shown, MOST_COLUMNS)}",
        svg(figure, "every seed"),
        group_key(drawn) if len(drawn) <= MOST_NUMBERED else (),
    )


def _draw_teachers(axis: Any, found: Comparison, groups: Sequence[Group]) -> str:
    """The teacher of all rows as one line, and where they differ a star at each row. Returns the words for
    the caption."""
    each = [level(found, g, "teacher") for g in groups]
    levels = [value for value in each if value is not None]
    if not levels:
        return ""
    called = found.called("teacher").words
    if far(*axis.get_ylim(), levels):
        ends = [plus_minus(end, None, found.metric.digits) for end in (min(levels), max(levels))]
        return f" Outside: the {called}, at {' to '.join(dict.fromkeys(ends))}."
    if (
        len(levels) == len(each)
        and len({frozenset(e.keys.get("teacher-pretrain", e.name) for e in g.entries) for g in groups}) == 1
    ):
        axis.axhline(levels[0], color=INK, lw=0.9, ls="--")
        mean = ", its mean over the seeds" if of_several_seeds(groups) else ""
        return f" The dashed line is the {called}{mean}."
    for i, value in enumerate(each):
        axis.plot(i + 0.34, value, marker="*", ms=8, color=colour(i), ls="none")
    mean = ", the mean over its seeds" if of_several_seeds(groups) else ""
    return f" A star is the {called} of the row{mean}."


def far(low: float, high: float, levels: Sequence[float]) -> bool:
    """Whether an axis that shows these as well would leave what lies from low to high less than a quarter of
    its height.
    """
    return high - low < (max(high, *levels) - min(low, *levels)) / 4
