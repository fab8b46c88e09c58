"""The one table that ends a run, on a terminal of any width."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from kdx.core.metric import Metric
from kdx.core.roles import roles_of
from kdx.report.metric import cell, column, finer
from kdx.report.run import prequential, sessions, shifts
from kdx.report.run.audit import audit_sentences
from kdx.report.run.privacy import epsilon_in_row
from kdx.report.run.result_warnings import answered_part
from kdx.report.run.rounds import round_cells, round_sentence
from kdx.report.run.sentences import is_skewed, result_sentences, test_rows
from kdx.report.run.units import bytes_in_words, magnitude, three_figures, whole_number
from kdx.report.run.verdict import called, metric, score, settle
from kdx.tasks.shown import counting_metric, shown_metrics

_Cells = tuple[list[str], list[list[str]]]
"""Header and rows."""
_ABOUT = ("parameters", "size", "MFLOPs", "latency ms")
_BALANCED = "balanced_accuracy"
"""Shown where accuracy hides what the rare classes have."""
_BRIEF = {
    "balanced": "bal",
    "parameters": "params",
    "latency ms": "ms",
    "validation": "val",
    "agreement": "agree",
}
"""Words of a header in a narrow table."""


def role_cells(results: Mapping, headline: str, short: bool = False) -> tuple[list[str], list[list[str]]]:
    """Header and rows, as text.
    short: briefer names and rounded counts, what was measured in full all the same.
    """
    used, rows_tested = settle(results, headline), test_rows(results, headline)
    counts = finer(counting_metric(results), rows_tested)
    beside = [
        finer(m, rows_tested)
        for m in shown_metrics(results).values()
        if m.name != counts.name and (m.column == "table" or (m.name == _BALANCED and is_skewed(results)))
    ]
    header = [*_ABOUT, column(counts, "validation"), column(counts, "test"), *(m.heading for m in beside)]
    rows = [
        [
            *_about(of[name], called, short),
            _validation(counts, of, name, used),
            cell(counts, score(of, name, used)),
            *(cell(m, metric(of, name, used, "test", m.name)) for m in beside),
        ]
        for called, name, of in _rows(results, short)
    ]
    return ["", *(_shorter(head) if short else head for head in header)], rows


def _rows(results: Mapping, short: bool) -> Iterator[tuple[str, str, Mapping]]:
    """(what a row is called, its role, the results that have it): the roles, and below an ensemble its
    members.
    """
    for name, role in roles_of(results).items():
        yield (role.short if short else role.words) + epsilon_in_row(results, name), name, results
        for number, member in enumerate(results.get("members") or [] if name == "teacher" else [], 1):
            called = f"{number} {member.get('model')}" if short else f"member {number}, {member.get('model')}"
            yield called, name, {**results, name: member}


def _validation(counts: Metric, results: Mapping, role: str, used: str) -> str:
    """With a star where some rows were measured, as a sentence below the table says."""
    shown = cell(counts, score(results, role, used, "validation"))
    return f"{shown}*" if role == "teacher" and answered_part(results, used) else shown


def _about(about: Mapping, called: str, short: bool) -> list[str]:
    """What a network is called, and how large and fast it is."""
    parameters = about.get("parameters")
    return [
        called,
        magnitude(parameters) if short else whole_number(parameters),
        bytes_in_words(about.get("bytes")),
        three_figures(None if about.get("flops") is None else about["flops"] / 1e6),
        three_figures(about.get("latency_ms")),
    ]


def _shorter(head: str) -> str:
    for words, brief in _BRIEF.items():
        head = head.replace(words, brief)
    return head


def results_title(results: Mapping, headline: str) -> str:
    """Which models, and which of their weights."""
    names = [
        f"{called(results, role)} {results[role].get('model', '?')}"
        for role in ("teacher", "student")
        if results.get(role)
    ]
    if not results.get("student") and results.get("baseline"):
        names.append(f"{called(results, 'baseline')} {results['baseline'].get('model', '?')}")
    weights = "last weights" if settle(results, headline) == "last" else "weights best on validation"
    return ", ".join([*names, weights])


class Report:
    """A rich renderable: the widest form of the table that fits, then the sentences, then the warnings."""

    def __init__(
        self, results: Mapping, headline: str, warnings: Sequence[str], audit: Mapping | None = None
    ):
        self.results, self.headline, self.warnings, self.audit = results, headline, list(warnings), audit

    def forms(self, console: Any) -> list[Any]:
        """The table from wide to narrow; the last one has a column for each role."""
        header, rows = role_cells(self.results, self.headline)
        short_header, short_rows = role_cells(self.results, self.headline, short=True)
        turned = [list(column) for column in zip(short_header, *short_rows, strict=True)]
        return [
            grid(header, rows, console.is_terminal),
            grid(short_header, short_rows, console.is_terminal),
            grid(turned[0], turned[1:], console.is_terminal),
        ]

    def shifted(self, console: Any, width: int) -> list[Any]:
        """The tables under shifts and attacks, if any: a row for each role, or where these are too wide for
        each shift."""
        from rich.measure import Measurement

        found = []
        for kind in shifts.SHIFT_KINDS:
            header, rows = shifts.shift_cells(self.results, kind=kind)
            form = grid(header, rows, console.is_terminal)
            if rows and Measurement.get(console, console.options.update(width=10_000), form).maximum > width:
                turned = [list(column) for column in zip(header, *rows, strict=True)]
                _, short = shifts.shift_cells(self.results, short=True, kind=kind)
                form = grid([header[0], *(row[0] for row in short)], turned[1:], console.is_terminal)
            found += [form] if rows else []
        return found

    def beside(self, width: int) -> Iterator[tuple[str, _Cells]]:
        """(a sentence below it, a table) of rounds, sessions and chunks, where there are any; with fewer
        words where these would be wider."""
        if (rounds := round_cells(self.results))[1]:
            yield round_sentence(self.results), rounds
        for cells in (sessions.session_cells, prequential.chunk_cells):
            found = cells(self.results)
            if found[1]:
                yield "", found if table_width(*found) <= width else cells(self.results, short=True)

    def __rich_console__(self, console: Any, options: Any):
        from rich.measure import Measurement
        from rich.text import Text

        unbounded = options.update(width=10_000)
        forms = self.forms(console)
        widths = [Measurement.get(console, unbounded, form).maximum for form in forms]
        index = next((i for i, width in enumerate(widths) if width <= options.max_width), len(forms) - 1)
        yield Text(results_title(self.results, self.headline), style="bold")
        # A width of its own: in a window narrower than any form, the terminal folds lines and no figure is
        # lost.
        yield from console.render(forms[index], options.update(width=max(widths[index], 1)))
        columns = options.max_width if console.is_terminal else None
        for about, cells in self.beside(options.max_width):
            for part in fitting(*cells, columns):
                form = grid(*part, console.is_terminal)
                yield from console.render(form, options.update(width=max(options.max_width, 80)))
            if about:
                yield Text(about)
        for form in self.shifted(console, options.max_width):
            yield from console.render(form, options.update(width=max(options.max_width, 80)))
        for line in [
            *result_sentences(self.results, self.headline),
            *sessions.session_sentences(self.results),
            *shifts.shift_sentences(self.results),
            *audit_sentences(self.audit, self.results),
        ]:
            yield Text(line, style="bold" if line.startswith("Gain") else "")
        for warning in self.warnings:
            yield Text(f"WARNING: {warning}", style="bold red")


def table_width(header: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Columns of a terminal that a table takes."""
    return sum(_widths(header, rows))


def _widths(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    from rich.cells import cell_len

    return [max(map(cell_len, cells)) + 2 for cells in zip(header, *rows, strict=True)]


def fitting(header: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None) -> list[_Cells]:
    """A table as it fits into so many columns: as it is, of few rows with a column for each of them, or in
    several tables that all begin with the first column, which may still be too wide. columns: None: any.
    """
    widths = _widths(header, rows)
    if columns is None or sum(widths) <= columns:
        return [([*header], [[*row] for row in rows])]
    turned = [list(cells) for cells in zip(header, *rows, strict=True)]
    if len(rows) < len(header) and table_width(turned[0], turned[1:]) <= columns:
        return [(turned[0], turned[1:])]
    parts = _divided(widths, columns, len(widths))
    parts = _divided(widths, columns, math.ceil((len(widths) - 1) / len(parts)))  # as many in each
    return [([header[i] for i in part], [[row[i] for i in part] for row in rows]) for part in parts]


def _divided(widths: Sequence[int], columns: int, most: int) -> list[list[int]]:
    """The first column with others, so many at most, as far as they fit, until all are there."""
    parts: list[list[int]] = []
    for i, wide in enumerate(widths[1:], 1):
        if parts and len(parts[-1]) <= most and sum(widths[j] for j in parts[-1]) + wide <= columns:
            parts[-1].append(i)
        else:
            parts.append([0, i])
    return parts


def grid(header: Sequence[str], rows: Sequence[Sequence[str]], terminal: bool) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD if terminal else box.MARKDOWN,
        header_style="bold",
        pad_edge=not terminal,
        collapse_padding=terminal,
    )
    for i, name in enumerate(header):
        table.add_column(Text(name), justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def results_table(
    results: Mapping, headline: str, warnings: Sequence[str], audit: Mapping | None = None
) -> Report:
    """results: see kdx.report.run.verdict. headline: "last" or "best". warnings: shown loudly below. audit:
    of the pseudo-labels, or None.
    """
    return Report(results, headline, warnings, audit)


def print_table(
    results: Mapping,
    headline: str,
    warnings: Sequence[str],
    file: TextIO | None = None,
    width: int | None = None,
    audit: Mapping | None = None,
) -> None:
    """Prints to stdout, or to `file`. A pipe gets a Markdown table, at a width that needs no shortening."""
    from rich.console import Console

    console = Console(file=file or sys.stdout, width=width, highlight=False, force_jupyter=False)
    if width is None and not console.is_terminal:
        console = Console(file=file or sys.stdout, width=120, highlight=False, force_jupyter=False)
    console.print(results_table(results, headline, warnings, audit), crop=False)
