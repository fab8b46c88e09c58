"""A comparison as rows: for a terminal of any width, as Markdown, CSV and JSON. Pure functions of what
kdx.report.compare.compare made.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kdx.report.compare.caveats import some
from kdx.report.compare.compare import OWN, Against, Comparison, Group, level
from kdx.report.compare.entries import Entry
from kdx.report.compare.statistics import LEVEL, Spread, chance, plus_minus
from kdx.report.run.markdown import escape
from kdx.report.run.markdown import markdown_table as markdown_table
from kdx.report.run.plain import dump
from kdx.report.run.table import magnitude, three_figures
from kdx.report.run.verdict import ROLE_WORDS

_REFERENCE = "reference"
BESIDE = {"baseline": "alone", "teacher": "teacher"}
"""What stands beside the student in a wide table, by its mean: role -> head of the column."""


def header(found: Comparison) -> list[str]:
    other = ["less reference"] if found.reference != OWN else ["gain"]
    return [
        "",
        "n",
        f"{found.metric.name}",
        "95% interval",
        *other,
        "95% interval",
        "wins",
        "p",
        "p (Holm)",
        *(["gain"] if found.reference != OWN else []),
        "gap closed",
    ]


def group_cells(found: Comparison, g: Group) -> list[str]:
    """One row under `header`, its name first."""
    digits = found.metric.digits
    row = [g.name, str(g.test.n), plus_minus(g.test.mean, g.test.deviation, digits), span(g.interval, digits)]
    if g.is_reference:
        row += [_REFERENCE, "", "", "", ""]
    else:
        row += against(g.against, digits)
    if found.reference != OWN:
        row.append(against(g.gain, digits)[0])
    return [*row, "-" if g.gap_closed is None else f"{100 * g.gap_closed:.0f}%"]


def against(a: Against | None, digits: int) -> list[str]:
    """Difference, its interval, wins, p, corrected p. Where some seeds have no pair, the number of pairs is
    in `wins`.
    """
    if a is None:
        return ["-"] * 5
    return [
        plus_minus(a.found.mean, a.found.deviation, digits, signed=True),
        span(a.interval, digits, signed=True),
        f"{a.found.wins}/{a.found.n}",
        chance(a.found.p),
        corrected(a),
    ]


def corrected(a: Against) -> str:
    return chance(a.holm) + (" n.s." if _verdict(a) == "n.s." and a.holm is not None else "")


def _verdict(a: Against | None) -> str | None:
    """ "more", "less" or "n.s." by the corrected p; None where there is no p."""
    if a is None or a.holm is None:
        return None
    return "n.s." if a.holm >= LEVEL else "more" if a.found.mean > 0 else "less"


def span(found: tuple[float, float] | None, digits: int, signed: bool = False) -> str:
    return "-" if found is None else " to ".join(plus_minus(end, None, digits, signed) for end in found)


def comparison_title(found: Comparison) -> str:
    of = (
        "the last weights"
        if found.protocol.get("headline", "last") == "last"
        else "the weights that were best on validation"
    )
    rows = f", {found.protocol['test rows']} test rows" if "test rows" in found.protocol else ""
    return f"{found.protocol.get('dataset', 'runs')}{rows}, {of}: mean ± deviation over seeds"


def comparison_sentences(found: Comparison) -> list[str]:
    """How to read the table, then what was folded, then what a reader must not miss."""
    to = (
        "each run's own matched baseline, the student alone"
        if found.reference == OWN
        else f"reference={found.reference}"
    )
    lines = []
    if found.comparisons:
        lines.append(
            f"Differences are paired by seed with {to}. p: two-sided paired t-test; Holm: corrected for "
            f"{found.comparisons} {'comparison' if found.comparisons == 1 else 'comparisons'}; n.s.: not "
            f"below {LEVEL} so corrected."
        )
    elif any(g.against for g in found.groups):
        lines.append(f"Differences are paired by seed with {to}.")
    single = [g.name for g in found.groups if g.test.n == 1]
    if single:
        what = (
            "No row has"
            if len(single) == len(found.groups)
            else "Rows of one seed have no deviation, no interval and no p, and"
        )
        lines.append(
            f"{what} "
            f"{'more than one seed: no deviation, no interval, no p' if what == 'No row has' else 'say little'}; "  # noqa: E501
            "run more with -m seed=0,1,2,3,4."
        )
    pairs = [
        g for g in found.groups if not g.is_reference and len(g.against.seeds if g.against else ()) < g.test.n
    ]
    if pairs:
        lines.append(f"Without a pair for every seed: {some([g.name for g in pairs])}.")
    return [
        *lines,
        *(f"Folded: {note}." for note in found.notes),
        *(f"WARNING: {warning}." for warning in found.warnings),
    ]


@dataclass(frozen=True)
class Form:
    """tables: (header, rows) each. below: lines."""

    tables: Sequence[tuple[list[str], list[list[str]]]]
    below: Sequence[str]


def forms(found: Comparison) -> list[Form]:
    """From wide to narrow: names in the table; numbers in it and names below; that in two tables; a line for
    each figure.
    """
    head, body = header(found), [group_cells(found, g) for g in found.groups]
    numbered = [[str(i), *row[1:]] for i, row in enumerate(body, 1)]
    legend = [f"{i}  {row[0]}" for i, row in enumerate(body, 1)]
    halves = [
        ([*head[:4], *head[9:]], [[*row[:4], *row[9:]] for row in numbered]),
        (["", *head[4:9]], [[row[0], *row[4:9]] for row in numbered]),
    ]
    lines = []
    for row in body:
        lines += [
            row[0],
            *(
                f"  {name}: {cell}"
                for name, cell in zip(head[1:], row[1:], strict=True)
                if cell not in ("", "-")
            ),
        ]
    return [Form([(head, body)], []), Form([(head, numbered)], legend), Form(halves, legend), Form([], lines)]


def records(found: Comparison) -> list[dict[str, Any]]:
    """One flat record a row, in the metric's unit (accuracy and agreement in per cent)."""
    changed = list(dict.fromkeys(key for g in found.groups for key in g.words))
    return [_record(found, g, changed) for g in found.groups]


def _record(found: Comparison, g: Group, changed: Sequence[str]) -> dict[str, Any]:
    return {
        "name": g.name,
        "n": g.test.n,
        "seeds": " ".join(map(str, g.seeds)),
        "metric": found.measure,
        **_spread("test", g.test, g.interval),
        "validation_mean": g.validation.mean if g.validation else None,
        "reference": _REFERENCE if g.is_reference else g.against.reference if g.against else None,
        **_difference("difference", g.against),
        "p_holm": g.against.holm if g.against else None,
        "comparisons": found.comparisons,
        "verdict": _verdict(g.against),
        **_difference("gain", g.gain),
        "gap_closed": g.gap_closed,
        **{f"{role}_mean": level(found, g, role) for role in BESIDE},
        **{key: g.mean("student", key) for key in ("parameters", "flops", "latency_ms")},
        **{key: g.words.get(key) for key in changed},
    }


def _spread(name: str, of: Spread, interval: tuple[float, float] | None) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {
        f"{name}_mean": of.mean,
        f"{name}_deviation": of.deviation,
        f"{name}_low": low,
        f"{name}_high": high,
    }


def _difference(name: str, a: Against | None) -> dict[str, Any]:
    low, high = (a.interval or (None, None)) if a else (None, None)
    values = (
        (a.found.n, a.found.mean, a.found.deviation, low, high, a.found.wins, a.found.losses, a.found.p)
        if a
        else [None] * 8
    )
    names = ("pairs", "mean", "deviation", "low", "high", "wins", "losses", "p")
    return dict(zip((f"{name}_{part}" for part in names), values, strict=True))


def as_csv(found: Comparison) -> str:
    """A cell that a spreadsheet would take for a formula gets an apostrophe before it."""
    made = records(found)
    to = io.StringIO()
    writer = csv.writer(to, lineterminator="\n")
    writer.writerow([_harmless(key) for key in made[0]])
    writer.writerows([[_harmless(value) for value in record.values()] for record in made])
    return to.getvalue()


def _harmless(value: Any) -> Any:
    return (
        f"'{value}"
        if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(value)
        else value
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def as_json(found: Comparison, further: Sequence[str] = ()) -> str:
    """further: lines of what was left out before."""
    made = [
        {**record, "words": dict(g.words), "runs": [run_row(found, e) for e in g.entries]}
        for record, g in zip(records(found), found.groups, strict=True)
    ]
    return dump(
        {
            "metric": found.measure,
            "unit": "per cent" if found.metric.unit == 100 else None,
            "more_is_better": found.metric.more,
            "reference": found.reference,
            "comparisons": found.comparisons,
            "level": LEVEL,
            "protocol": found.protocol,
            "notes": [*found.notes, *further],
            "warnings": found.warnings,
            "rows": made,
        }
    )


def run_row(found: Comparison, e: Entry) -> dict[str, Any]:
    """One run behind a row."""
    values = {role: e.score(role, found.measure) for role in ROLE_WORDS}
    return {
        "run": e.name,
        "seed": e.seed,
        "student_key": e.student,
        "commit": e.environment.get("commit"),
        "kdx": e.environment.get("kdx"),
        **{role: None if value is None else found.metric.unit * value for role, value in values.items()},
    }


def as_markdown(found: Comparison, further: Sequence[str] = ()) -> str:
    rows = [
        [escape(cell) for cell in [*group_cells(found, g), *beside(found, g), *student_size(g)]]
        for g in found.groups
    ]
    table = markdown_table(
        [escape(name) for name in [*header(found), *BESIDE.values(), "params", "MFLOPs", "ms"]], rows
    )
    lines = [f"- {escape(line)}" for line in [*comparison_sentences(found), *further]]
    return "\n\n".join([f"**{escape(comparison_title(found))}**", table, "\n".join(lines)]) + "\n"


def beside(found: Comparison, g: Group) -> list[str]:
    """Means of the student alone and of the teacher."""
    return [
        "-" if (mean := level(found, g, role)) is None else plus_minus(mean, None, found.metric.digits)
        for role in BESIDE
    ]


def student_size(g: Group) -> list[str]:
    """Of the student: parameters, MFLOPs, latency in ms."""
    count, flops = g.mean("student", "parameters"), g.mean("student", "flops")
    return [
        magnitude(None if count is None else round(count)),
        three_figures(None if flops is None else flops / 1e6),
        three_figures(g.mean("student", "latency_ms")),
    ]
