"""What a command ends with: a table on the terminal, and a document in its place or in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdx.core import output
from kdx.core.documents import dump
from kdx.core.errors import printable
from kdx.core.files import write_output
from kdx.core.folded import fold_lines


def show_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], below: Sequence[str] = ()
) -> None:
    """Prints to stdout. A pipe gets a Markdown table; in a narrow terminal the table has a column for each
    row, or is several, and lines are folded: no figure is lost.
    """
    from rich.console import Console
    from rich.measure import Measurement
    from rich.text import Text

    from kdx.report.run.table import fitting, grid

    console = Console(highlight=False, soft_wrap=True, force_jupyter=False)
    header, rows = [printable(cell) for cell in header], [[printable(cell) for cell in row] for row in rows]
    columns = console.width if console.is_terminal else None
    if title:
        console.print(Text(fold_lines(printable(title), columns), style="bold"))
    for cells in fitting(header, rows, columns) if rows else ():
        made = grid(*cells, console.is_terminal)
        wide = Measurement.get(console, console.options.update(width=10_000), made).maximum
        Console(highlight=False, width=max(wide, console.width), force_jupyter=False).print(made)
    for line in below:
        console.print(Text(fold_lines(printable(line), columns)))


def give(document: Mapping[str, Any], show: Callable[[Any], object], file: Path | None) -> None:
    """What a command found: answered as a document, or else shown; and written to the file that `json=`
    named. show: is given the document.
    """
    output.answer(document)
    if not output.wants_document():
        show(document)
    if file:
        write_output("json", file, dump(document))
