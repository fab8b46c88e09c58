"""Plots of what the students of a comparison get wrong: reliability, confusion, the most confused classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kdx.report.compare.axes import MOST_LINES, Plot, group_key, left_out, seeds
from kdx.report.compare.compare import Comparison
from kdx.report.compare.svg import INK, NARROW_PLOT, WIDE_PLOT, colour, panels, svg
from kdx.report.run.names import visible

MOST_MATRICES, MOST_LETTERED, MOST_PAIRS = 6, 16, 10
BLUE = (0.23, 0.49, 0.85)
_FEWEST = 10
"""Rows of a bin of the reliability plot below which the share of right ones is mostly chance."""


def reliability_curves(found: Comparison) -> Iterator[Plot | None]:
    """How often the student is right against its confidence."""
    shown = [
        (i, g)
        for i, g in enumerate(found.groups)
        if any(e.networks["student"].reliability for e in g.entries)
    ]
    if not shown:
        return
    figure, (axis,) = panels(1, width=NARROW_PLOT, height=4.2)
    axis.plot([0, 100], [0, 100], color=INK, lw=0.8, ls="--", alpha=0.6)
    for i, g in shown[:MOST_LINES]:
        points = calibration(
            [e.networks["student"].reliability for e in g.entries if e.networks["student"].reliability]
        )
        if points:
            axis.plot(*zip(*points, strict=True), color=colour(i), marker="o", ms=4, lw=1.3)
    axis.set_xlabel("confidence, %")
    axis.set_ylabel("right, %")
    yield Plot(
        "Reliability of the students",
        "How often the student is right, by how sure it is, on the test split; the rows of "
        f"{seeds([g for _, g in shown])} together. On the dashed line confidence is deserved; below it the "
        f"student is too sure. Bins of fewer than {_FEWEST} rows are left out.{left_out(shown, MOST_LINES)}",
        svg(figure, "reliability"),
        group_key(shown[:MOST_LINES]),
    )


def calibration(tables: Sequence[Mapping[str, Sequence[float | None]]]) -> list[tuple[float, float]]:
    """(mean confidence, share right) of each bin with at least FEWEST rows, in per cent, of tables with the
    bins of the first.
    """
    tables = [t for t in tables if t["edges"] == tables[0]["edges"]]
    found = []
    for b in range(len(tables[0]["counts"])):
        rows = sum(t["counts"][b] for t in tables)
        if rows >= _FEWEST:
            sure = sum(t["counts"][b] * t["confidence"][b] for t in tables if t["counts"][b])
            found.append((100 * sure / rows, 100 * sum(t["right"][b] for t in tables) / rows))
    return found


def confusion_matrices(found: Comparison) -> Iterator[Plot | None]:
    """A matrix a group, counts summed over seeds."""
    import numpy as np

    classes = [visible(c)[:14] for c in found.groups[0].entries[0].classes]
    of = [
        (i, g, [e.networks["student"].confusion for e in g.entries if e.networks["student"].confusion])
        for i, g in enumerate(found.groups)
    ]
    shown = [(i, g, np.sum(m, axis=0)) for i, g, m in of if m and all(len(x) == len(classes) for x in m)]
    if not shown:
        return
    drawn = shown[:MOST_MATRICES]
    figure, axes = panels(
        len(drawn),
        width=_width(drawn),
        height=2.4 if len(drawn) > 2 else 3.6,
        columns=3,
    )
    for axis, (i, g, counts) in zip(axes, drawn, strict=True):
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axis.imshow(np.dstack([np.full_like(shares, c) for c in BLUE] + [shares]), interpolation="nearest")
        axis.grid(False)
        axis.set_title(f"row {i + 1}, n = {g.test.n}")
        every = -(-len(classes) // MOST_LETTERED)
        turned = {"rotation": 90} if max(map(len, classes)) > 2 else {}
        axis.set_xticks(range(0, len(classes), every), classes[::every], fontsize=7, **turned)
        axis.set_yticks(range(0, len(classes), every), classes[::every], fontsize=7)
        for spine in axis.spines.values():
            spine.set_visible(True)
        if len(classes) <= 10:
            for a, b in np.argwhere(counts):
                axis.text(
                    b,
                    a,
                    f"{counts[a, b]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=5 if len(drawn) > 1 else 7,
                    in_layout=False,
                )
    axes[0].set_ylabel("truth")
    axes[0].set_xlabel("prediction")
    yield Plot(
        "Confusion of the students",
        "Test rows by their truth (rows) and what the student takes them for (columns), summed over "
        f"{seeds([g for _, g, _ in drawn])}; colours are shares of a row, figures are counts. Above each: "
        f"its row in the table.{left_out(shown, MOST_MATRICES)}",
        svg(figure, "confusion matrices"),
        [(None, f"{i + 1}  {g.name}") for i, g, _ in drawn],
    )


def confused_pairs(found: Comparison) -> Iterator[Plot | None]:
    """Where the classes are too many for a matrix: a row of bars a group, rows summed over seeds."""
    of = [
        (i, g, _pairs([e.networks["student"].confused for e in g.entries]))
        for i, g in enumerate(found.groups)
        if not any(e.networks["student"].confusion for e in g.entries)
    ]
    drawn = (shown := [entry for entry in of if entry[2]])[:MOST_MATRICES]
    if not drawn:
        return
    names = [visible(c)[:14] for c in found.groups[0].entries[0].classes]
    figure, axes = panels(len(drawn), width=_width(drawn), height=2.6, columns=2)
    for axis, (i, g, pairs) in zip(axes, drawn, strict=True):
        axis.barh(range(len(pairs)), [rows for _, rows in pairs], color=colour(i))
        words = [f"{names[truth]} > {names[predicted]}" for (truth, predicted), _ in pairs]
        axis.set_yticks(range(len(pairs)), words, fontsize=6)
        axis.invert_yaxis()
        axis.set_title(f"row {i + 1}, n = {g.test.n}")
    axes[0].set_xlabel("test rows")
    yield Plot(
        "Classes that the students confuse most",
        "Test rows of one class that the student takes for another (truth > prediction), summed over "
        f"{seeds([g for _, g, _ in drawn])}; of each run the pairs with most rows are known. Above each: "
        f"its row in the table.{left_out(shown, MOST_MATRICES)}",
        svg(figure, "most confused classes"),
        [(None, f"{i + 1}  {g.name}") for i, g, _ in drawn],
    )


def _width(drawn: Sequence[object]) -> float:
    """In inches, of a figure with a panel for each."""
    return WIDE_PLOT if len(drawn) > 1 else NARROW_PLOT


def _pairs(of_runs: Sequence[Sequence[tuple[int, int, int]]]) -> list[tuple[tuple[int, int], int]]:
    """((class, what it is taken for), rows of all runs) of the pairs with most rows."""
    rows: dict[tuple[int, int], int] = {}
    for truth, predicted, count in (pair for pairs in of_runs for pair in pairs):
        rows[truth, predicted] = rows.get((truth, predicted), 0) + count
    return sorted(rows.items(), key=lambda entry: (-entry[1], entry[0]))[:MOST_PAIRS]
