"""Figures of matplotlib as SVG that a page can hold: its colours are the page's own, light or dark, and its
text is text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INK, _GRID, PAPER = "#010203", "#010204", "#010205"
"""Stand for the page's colour of text, of thin lines and of the ground."""
GROUP_COLOURS = 10
"""How many the page has for groups."""
SIZE = 9
"""Of text, in points; a figure is shown at its own size, 72 points to the inch."""
WIDE_PLOT, NARROW_PLOT = 6.1, 4.6
"""In inches: two figures of the first stand side by side on a small screen."""
_MARK = re.compile(r"#0102([0-9a-f]{2})")
_FIRST = 16


def colour(number: int) -> str:
    """Stands for the page's colour of the group with this number, from 0 on;
    they come again after COLOURS.
    """
    return f"#0102{_FIRST + number % GROUP_COLOURS:02x}"


@contextmanager
def drawing(salt: str) -> Iterator[None]:
    """The settings of all figures. salt: makes the ids inside one figure other than those of the others on
    the page, and the same each time.
    """
    import matplotlib as mpl

    look = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "text.parse_math": False,
        "font.size": SIZE,
        "font.family": "DejaVu Sans",
        "axes.edgecolor": _GRID,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "text.color": INK,
        "xtick.major.width": 0,
        "ytick.major.width": 0,
        "xtick.minor.width": 0,
        "ytick.minor.width": 0,
        "axes.grid": True,
        "grid.color": _GRID,
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "axes.titlesize": SIZE,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
    }
    with mpl.rc_context(look):
        yield


def panels(
    count: int,
    width: float = WIDE_PLOT,
    height: float = 3.4,
    columns: int | None = None,
    share_y: bool = False,
) -> tuple[Any, list[Any]]:
    """(figure, its axes) side by side, or in rows of `columns`. width, height: in inches, of all and of one
    row.
    """
    from matplotlib.figure import Figure

    columns = min(count, columns or count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=share_y, squeeze=False).flatten()
    for unused in axes[count:]:
        unused.remove()
    return figure, list(axes[:count])


def svg(figure: Any, label: str) -> str:
    """The <svg> element alone: no prologue, no metadata, no address but the names of the two vocabularies.
    label: plain words for those who cannot see it, escaped already."""
    import logging
    import warnings

    to = io.StringIO()
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    # a letter that this font lacks is drawn by the browser, with one of its own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure.savefig(to, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = to.getvalue()
    text = re.sub(r"<!--.*?-->", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = small(text).replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    return _MARK.sub(lambda found: _of_page(int(found[1], 16)), text)


def small(text: str) -> str:
    """Without what does not show: the font, which is the page's, rotations by nothing, indents, and digits
    beyond a hundredth of a point.
    """
    text = re.sub(r" transform=\"rotate\(-?0 [^\"]*\)\"|(?<=[ \"])font-family: 'DejaVu Sans'; ", "", text)
    text = re.sub(r"\n +", "\n", text)
    return re.sub(r' (?:d|x|y)="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), text)


def _of_page(mark: int) -> str:
    return {3: "currentColor", 4: "var(--grid)", 5: "var(--paper)"}.get(mark, f"var(--c{mark - _FIRST})")
