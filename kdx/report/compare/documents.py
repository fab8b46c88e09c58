"""A comparison as CSV, JSON and Markdown. Pure functions of what kdx.report.compare.compare made."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from kdx.core.documents import dump, plain
from kdx.core.metric import Metric
from kdx.core.roles import ROLE_WORDS
from kdx.report.compare.by_class import class_records
from kdx.report.compare.compare import Comparison, level
from kdx.report.compare.entries import Entry
from kdx.report.compare.groups import Against, Group
from kdx.report.compare.rows import (
    REFERENCE,
    beside,
    beside_columns,
    comparison_sentences,
    comparison_title,
    group_cells,
    header,
    student_size,
)
from kdx.report.compare.statistics import LEVEL, Spread
from kdx.report.run.markup import escape, markdown_table


def records(found: Comparison) -> list[dict[str, Any]]:
    """One flat record a row, in the unit in which the metric is shown; a difference or a gain above 0 is for
    the better.
    """
    changed = list(dict.fromkeys(key for g in found.groups for key in g.words))
    return [_record(found, g, changed) for g in found.groups]


def _record(found: Comparison, g: Group, changed: Sequence[str]) -> dict[str, Any]:
    return {
        "name": g.name,
        "n": g.test.n,
        "seeds": " ".join(map(str, g.seeds)),
        "metric": found.metric.name,
        **_spread("test", g.test, g.interval),
        "validation_mean": g.validation.mean if g.validation else None,
        "reference": REFERENCE if g.is_reference else g.against.reference if g.against else None,
        **_difference("difference", g.against),
        "p_holm": g.against.holm if g.against else None,
        "comparisons": found.comparisons,
        "verdict": _verdict(g.against, found.metric),
        **_difference("gain", g.gain),
        "gap_closed": g.gap_closed,
        **{f"{role}_mean": level(found, g, role) for role in beside_columns(found)},
        **{key: g.mean("student", key) for key in ("parameters", "flops", "latency_ms")},
        **{key: g.words.get(key, g.entries[0].value(key)) for key in changed},
    }


def _verdict(a: Against | None, metric: Metric) -> str | None:
    """Whether the row has significantly "more" or "less" of the metric than its reference, or "n.s."; None
    where there is no p.
    """
    if a is None or a.holm is None:
        return None
    return "n.s." if a.holm >= LEVEL else "more" if (a.found.mean > 0) == metric.more else "less"


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
    writer.writerow([harmless_cell(key) for key in made[0]])
    writer.writerows([[harmless_cell(value) for value in record.values()] for record in made])
    return to.getvalue()


def harmless_cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula, with an apostrophe before it."""
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


def as_document(found: Comparison, further: Sequence[str] = ()) -> dict[str, Any]:
    """What --json answers. further: lines of what was left out before."""
    made = [
        {**record, **_classes(g), "words": dict(g.words), "runs": [run_row(found, e) for e in g.entries]}
        for record, g in zip(records(found), found.groups, strict=True)
    ]
    return plain(
        {
            "metric": found.metric.name,
            "unit": "per cent" if found.metric.unit == "%" else found.metric.unit.strip() or None,
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


def as_json(found: Comparison, further: Sequence[str] = ()) -> str:
    """`as_document` as a file."""
    return dump(as_document(found, further))


def _classes(g: Group) -> dict[str, Any]:
    """Of runs that have some."""
    return {"by_class": found} if (found := class_records(g)) else {}


def run_row(found: Comparison, e: Entry) -> dict[str, Any]:
    """One run behind a row."""
    values = {role: e.score(role, found.metric.name) for role in (*ROLE_WORDS, *found.roles)}
    return {
        "run": e.name,
        "seed": e.seed,
        "student_key": e.student,
        "commit": e.environment.get("commit"),
        "kdx": e.environment.get("kdx"),
        **{role: None if value is None else found.metric.scale * value for role, value in values.items()},
    }


def as_markdown(found: Comparison, further: Sequence[str] = ()) -> str:
    rows = [
        [escape(cell) for cell in [*group_cells(found, g), *beside(found, g), *student_size(g)]]
        for g in found.groups
    ]
    head = [*header(found), *beside_columns(found).values(), "params", "MFLOPs", "ms"]
    table = markdown_table([escape(name) for name in head], rows)
    lines = [f"- {escape(line)}" for line in [*comparison_sentences(found), *further]]
    return "\n\n".join([f"**{escape(comparison_title(found))}**", table, "\n".join(lines)]) + "\n"
