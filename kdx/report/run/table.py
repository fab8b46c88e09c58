"""The one table that ends a run, on a terminal of any width."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from kdx.report.run import shifts
from kdx.report.run.audit import audit_sentences as audit_sentences
from kdx.report.run.audit import chosen, rounds
from kdx.report.run.verdict import (
    ROLE_WORDS,
    metric,
    overfit_gap,
    percent,
    points,
    present,
    settle,
    standard_error,
    summary,
)
from kdx.tasks import chance

_WIDE = ("parameters", "size", "MFLOPs", "latency ms", "validation %", "test %", "ECE", "agreement %")
NARROW = ("params", "size", "MFLOPs", "ms", "val %", "test %", "ECE", "agree %")
SKEWED = 1.5
"""How many times its even share the largest class has where balanced accuracy is reported beside the table
too.
"""
SHORT_ROLES = {
    "teacher": "teacher",
    "noiseless": "no noise",
    "baseline": "alone",
    "student": "distilled",
    "ceiling": "ceiling",
    "validation_labels": "alone, val too",
}


def role_cells(results: Mapping, headline: str, short: bool = False) -> tuple[list[str], list[list[str]]]:
    """Header and rows, as text.
    short: briefer names and rounded counts, the accuracies in full all the same.
    """
    used, digits = settle(results, headline), accuracy_digits(results, headline)
    header = ["", *(NARROW if short else _WIDE)]
    rows = []
    for role in present(results):
        about = results[role]
        rows.append(
            [
                (SHORT_ROLES if short else ROLE_WORDS)[role],
                magnitude(about.get("parameters"))
                if short
                else ("-" if about.get("parameters") is None else f"{about['parameters']:,}"),
                bytes_in_words(about.get("bytes")),
                three_figures(None if about.get("flops") is None else about["flops"] / 1e6),
                three_figures(about.get("latency_ms")),
                percent(metric(results, role, used, "validation", "accuracy"), digits).rstrip("%"),
                percent(metric(results, role, used, "test", "accuracy"), digits).rstrip("%"),
                decimals(metric(results, role, used, "test", "ece"), 3),
                percent(metric(results, role, used, "test", "agreement"), digits).rstrip("%"),
            ]
        )
    return header, rows


def result_sentences(results: Mapping, headline: str) -> list[str]:
    """What the table means: the gain with a caution, the part of the gap closed, the teacher's
    train-validation gap.
    """
    summarised, digits = summary(results, headline), accuracy_digits(results, headline)
    used, lines = summarised["headline"], []
    n = next((n for role in present(results) if (n := metric(results, role, used, "test", "n"))), None)
    if summarised["gain"] is not None:
        lines.append(
            f"Gain of distillation: {points(summarised['gain'], digits)} points of test "
            f"accuracy.{of_rounds(results)}"
        )
    if summarised["gap_closed"] is not None:
        gap = metric(results, "teacher", used, "test", "accuracy") - metric(
            results, "baseline", used, "test", "accuracy"
        )
        lines.append(
            f"Part of the gap to the teacher closed: {100 * summarised['gap_closed']:.0f}% of "
            f"{100 * gap:.{digits}f} points."
        )
    elif summarised["gain"] is not None:
        lines.append(
            f"Part of the gap to the teacher closed: none to speak of, as {summarised['gap_closed_reason']}."
        )
    lines += [
        *of_validation(results, used, digits),
        *of_ceiling(results, used, digits),
        *of_balance(results, used),
    ]
    if summarised["gain"] is not None and n:
        error = max(
            standard_error(metric(results, role, used, "test", "accuracy"), n)
            for role in ("baseline", "student")
        )
        lines.append(
            f"Caution: {n} test rows, so each accuracy is good to about {100 * error:.1f} points (one "
            "binomial standard error); one seed: compare several with -m seed=0,1,2."
        )
    overfit = overfit_gap(results, used)
    if overfit is not None:
        train = metric(results, "teacher", used, "train", "accuracy")
        validation = metric(results, "teacher", used, "validation", "accuracy")
        lines.append(
            f"Teacher: {percent(train)} on its training rows, {percent(validation)} on validation (a gap of "
            f"{100 * overfit:.1f} points)."
        )
    return lines


def of_rounds(results: Mapping) -> str:
    """What favours a student that was the best of several rounds on validation; empty where it is no such
    student.
    """
    rounds = results.get("rounds") or []
    if (
        len(rounds) < 2
        or results.get("round_by") != "validation"
        or not all("validation" in entry for entry in rounds)
    ):
        return ""
    return (
        f" It is the best of {len(rounds)} rounds on validation, and the student alone is one run: some of "
        "this may be the choice."
    )


def of_balance(results: Mapping, used: str) -> list[str]:
    """Where one class has many of the test rows: what accuracy hides."""
    counts = (results.get("class_counts") or {}).get("test") or [1]
    which, share = chance.largest(counts)
    balances = [
        f"{ROLE_WORDS[role]} {percent(value)}"
        for role in present(results)
        if (value := metric(results, role, used, "test", "balanced_accuracy")) is not None
    ]
    if not balances or share * len(counts) < SKEWED:
        return []
    return [
        (
            f'Balanced test accuracy, the mean recall of the classes, as "{results["classes"][which]}" has '
            f"{percent(share)} of the rows: {', '.join(balances)}."
        )
    ]


def of_validation(results: Mapping, used: str, digits: int) -> list[str]:
    """How the distilled student fares beside one that just learned from the validation labels."""
    student, both = (
        metric(results, role, used, "test", "accuracy") for role in ("student", "validation_labels")
    )
    if student is None or both is None:
        return []
    return [
        "Beside the student alone that learned from the validation labels too (to its last step, nothing "
        f"validates it): {points(student - both, digits)} points."
    ]


def of_ceiling(results: Mapping, used: str, digits: int) -> list[str]:
    """What the hidden labels of the pool bring, and how much of that the teacher's answers brought."""
    alone, student, best = (
        metric(results, role, used, "test", "accuracy") for role in ("baseline", "student", "ceiling")
    )
    if best is None or alone is None or student is None:
        return []
    whole = best - alone
    if student > best:
        part = "the teacher's answers brought more, as those of a good, larger network can"
    else:
        part = (
            f"the teacher's answers brought {100 * (student - alone) / whole:.0f}% of that"
            if whole > 0
            else "there was nothing to gain from them"
        )
    return [
        f"The true labels of the pool bring {points(whole, digits)} points over the student alone: {part}."
    ]


def results_title(results: Mapping, headline: str) -> str:
    """Which models, and which of their weights."""
    names = [
        f"{ROLE_WORDS[role]} {results[role].get('model', '?')}"
        for role in ("teacher", "student")
        if results.get(role)
    ]
    if not results.get("student") and results.get("baseline"):
        names.append(f"{ROLE_WORDS['baseline']} {results['baseline'].get('model', '?')}")
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
        """The table of accuracies under shifts, if any: a row for each role, or where these are too wide for
        each shift.
        """
        from rich.measure import Measurement

        header, rows = shifts.shift_cells(self.results, ROLE_WORDS)
        form = grid(header, rows, console.is_terminal)
        if rows and Measurement.get(console, console.options.update(width=10_000), form).maximum > width:
            turned = [list(column) for column in zip(header, *rows, strict=True)]
            _, short = shifts.shift_cells(self.results, SHORT_ROLES)
            form = grid([header[0], *(row[0] for row in short)], turned[1:], console.is_terminal)
        return [form] if rows else []

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
        header, rows = rounds(self.results)
        if rows:
            yield from console.render(
                grid(header, rows, console.is_terminal), options.update(width=max(options.max_width, 80))
            )
            yield Text(chosen(self.results))
        for form in self.shifted(console, options.max_width):
            yield from console.render(form, options.update(width=max(options.max_width, 80)))
        for line in [
            *result_sentences(self.results, self.headline),
            *shifts.shift_sentences(self.results),
            *audit_sentences(self.audit),
        ]:
            yield Text(line, style="bold" if line.startswith("Gain") else "")
        for warning in self.warnings:
            yield Text(f"WARNING: {warning}", style="bold red")


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

    console = Console(file=file or sys.stdout, width=width, highlight=False)
    if width is None and not console.is_terminal:
        console = Console(file=file or sys.stdout, width=120, highlight=False)
    console.print(results_table(results, headline, warnings, audit), crop=False)


def accuracy_digits(results: Mapping, headline: str) -> int:
    """Decimals of a percentage: two where the test split is large enough for them to mean something."""
    counts = [metric(results, role, settle(results, headline), "test", "n") or 0 for role in present(results)]
    return 2 if max(counts, default=0) >= 5000 else 1


def magnitude(count: int | None) -> str:
    """1234 -> "1.23k": three significant figures with a unit."""
    if count is None:
        return "-"
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= scale:
            return three_figures(count / scale) + unit
    return str(count)


def bytes_in_words(count: int | None) -> str:
    """Bytes on disk, decimal units: 94_100_000 -> "94.1 MB"."""
    if count is None:
        return "-"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{three_figures(count / scale)} {unit}"
    return f"{count} B"


def three_figures(value: float | None) -> str:
    """At least three significant figures, never an exponent: 0.0412, 3.14, 41.2, 1,234."""
    if value is None:
        return "-"
    if value <= 0 or value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    if value >= 1:
        return f"{value:.2f}"
    return f"{value:.3g}" if value >= 1e-4 else "<0.0001"


def decimals(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
