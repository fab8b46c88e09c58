"""A comparison of runs on the terminal: the table in the widest form that fits, and tables by class."""

from __future__ import annotations

from kdx.commands._show import show_table
from kdx.report.compare import rows
from kdx.report.compare.by_class import class_tables, without_table
from kdx.report.compare.compare import Comparison


def show_classes(made: Comparison) -> None:
    tables = class_tables(made)
    for name, head, body in tables:
        show_table(name, head, body)
    if not tables:
        print("No table by class: the runs have no classes, or are older than kdx's tables of them.")
    elif more := without_table(made):
        print(more)


def show_comparison(made: Comparison) -> None:
    """The table on the terminal, in the widest form that fits; a pipe gets Markdown."""
    from rich.console import Console
    from rich.measure import Measurement

    from kdx.report.run.table import grid

    console = Console(highlight=False, force_jupyter=False)
    wide = console.options.update(width=10_000)
    forms = rows.forms(made)
    fitting = (
        f
        for f in forms
        if all(Measurement.get(console, wide, grid(*t, True)).maximum <= console.width for t in f.tables)
    )
    chosen = next(fitting) if console.is_terminal else forms[0]
    for number, (head, body) in enumerate(chosen.tables):
        show_table(rows.comparison_title(made) if number == 0 else "", head, body)
    show_table(
        "" if chosen.tables else rows.comparison_title(made),
        [],
        [],
        [*chosen.below, *rows.comparison_sentences(made)],
    )
