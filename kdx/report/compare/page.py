"""A comparison as one HTML page that needs no network: all that comes from runs is text, and nothing in it
can become markup or script.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from kdx.report.compare import documents, rows
from kdx.report.compare.axes import Plot
from kdx.report.compare.by_class import class_tables, without_table
from kdx.report.compare.compare import Comparison, level
from kdx.report.compare.groups import Group
from kdx.report.compare.plots import plots
from kdx.report.compare.references import OWN
from kdx.report.compare.statistics import plus_minus
from kdx.report.compare.svg import GROUP_COLOURS
from kdx.report.compare.theme import POLICY, SCRIPT, STYLE

Cell = tuple[str, float | str | None] | tuple[str, float | str | None, str]
"""(what is shown, what the table is sorted by, what stands small below it)"""


def page(found: Comparison, further: Sequence[str] = ()) -> str:
    """further: lines of what was left out before."""
    title = f"kdx compare: {rows.comparison_title(found)}"
    notes = [*rows.comparison_sentences(found), *further]
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_escape(title)}</title>",
        f"<style>{STYLE}</style>",
        "</head>",
        "<body>",
        "<h1>Comparison of runs</h1>",
        (
            f"<p>{_escape(rows.comparison_title(found))}. {_count(len(found.groups), 'row')}, "
            f"{_count(sum(g.test.n for g in found.groups), 'student')}.</p>"
        ),
        _list([n.removeprefix("WARNING: ") for n in notes if n.startswith("WARNING")], "warnings"),
        '<div class="wide">',
        table(found),
        "</div>",
        _words(found),
        *(f"<p>{_escape(n)}</p>" for n in notes if not n.startswith("WARNING")),
        '<div class="figures">',
        *(_figure(p) for p in plots(found)),
        "</div>",
        _absent(found),
        *_classes(found),
        "<h2>Protocol, the same for all runs</h2>",
        "<dl>",
        *(f"<dt>{_escape(key)}</dt><dd>{_escape(value)}</dd>" for key, value in found.protocol.items()),
        "</dl>",
        _runs(found),
        f"<script>{SCRIPT}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _words(found: Comparison) -> str:
    """What the heads of the table's columns mean, below it."""
    said = "".join(
        f"<dt>{_escape(word)}</dt><dd>{_escape(text)}</dd>" for word, text in rows.column_words(found)
    )
    return f'<dl class="words">{said}</dl>'


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def table(found: Comparison) -> str:
    """Every row; sorted by a click on a column's head."""
    reference = found.reference != OWN
    _, n, test, interval, difference, its_interval, wins, p, corrected, *others = rows.header(found)
    head: list[Cell] = [("#", None), ("row", None), (n, None), (test, None, interval), ("validation", None)]
    head += [(difference, None, its_interval), (wins, None), (corrected, None, p)]
    single = [*others, *rows.beside_columns(found).values(), "params", "MFLOPs", "ms"]
    head += [(name, None) for name in single]
    return _table(head, [_row(found, i, g, reference) for i, g in enumerate(found.groups)])


def _row(found: Comparison, i: int, g: Group, reference: bool) -> list[Cell]:
    """Under each mean its interval, and under the corrected p the p itself: so the table is no wider than a
    small window."""
    name, n, test, interval, difference, its_interval, wins, p, corrected, *gain, closed = rows.group_cells(
        found, g
    )
    a, digits = g.against, found.metric.digits
    validated = (
        (plus_minus(g.validation.mean, g.validation.deviation, digits), g.validation.mean)
        if g.validation
        else ("-", None)
    )
    sizes = zip(
        rows.student_size(g),
        (g.mean("student", key) for key in ("parameters", "flops", "latency_ms")),
        strict=True,
    )
    return [
        (str(i + 1), i + 1),
        (name, name),
        (n, g.test.n),
        (test, g.test.mean, interval),
        validated,
        (difference, a and a.found.mean, its_interval),
        (wins, a and a.found.wins),
        (corrected, a and a.holm, p),
        *((text, g.gain and g.gain.found.mean) for text in (gain if reference else [])),
        (closed, g.gap_closed),
        *zip(
            rows.beside(found, g), (level(found, g, role) for role in rows.beside_columns(found)), strict=True
        ),
        *sizes,
    ]


def _table(head: Sequence[Cell], body: Sequence[Sequence[Cell]], look: str = "sorts") -> str:
    lines = [f'<table class="{look}"><thead><tr>']
    lines += [
        f'<th scope="col"{_class(name)}><button type="button" title="sort">{_escape(name)}</button>'
        f"{_small(below)}</th>"
        for name, _, *below in head
    ]
    lines.append("</tr></thead><tbody>")
    for row in body:
        cells = [
            (
                f'<td{_class(name)} data-v="{_escape("" if value is None else value)}">'
                f"{_dot(name, text)}{_escape(text)}{_small(below)}</td>"
            )
            for (name, *_), (text, value, *below) in zip(head, row, strict=True)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def _small(below: Sequence[str]) -> str:
    return "".join(f"<small>{_escape(text)}</small>" for text in below if text not in ("", "-"))


def _class(name: str) -> str:
    return ' class="name"' if name in ("row", "run") else ""


def _dot(name: str, text: str) -> str:
    return f'<i class="c{(int(text) - 1) % GROUP_COLOURS}"></i>' if name == "#" else ""


def _figure(plot: Plot) -> str:
    dots = {number: "" if number is None else f'<i class="c{number}"></i>' for number, _ in plot.key}
    key = "".join(f"<li>{dots[number]}{_escape(words)}</li>" for number, words in plot.key)
    legend = f'<ul class="key">{key}</ul>' if key else ""
    return (
        f"<section><h2>{_escape(plot.title)}</h2>\n<figure>{plot.svg}{legend}<figcaption>{_escape(plot.caption)}</figcaption></figure>"
        "</section>"
    )


def _absent(found: Comparison) -> str:
    runs = [e for g in found.groups for e in g.entries]
    if any(e.networks["student"].reliability for e in runs) or not any(e.classes for e in runs):
        return ""
    return "<p>No plot of reliability: these runs are older than kdx's tables of it.</p>"


def _classes(found: Comparison) -> list[str]:
    """The students by class, a table for each row."""
    tables = class_tables(found)
    if not tables:
        return []
    lines = ["<h2>Classes</h2>", "<p>The students on the test rows of all seeds together.</p>"]
    for place, (name, header, body) in enumerate(tables):
        head = [(text, None) for text in header]
        shown = _table(head, [[(text, _sorted_by(text)) for text in row] for row in body], "sorts broken")
        opened = "" if place else " open"
        summary = f"<summary>{_escape(name)}</summary>"
        lines.append(f'<details{opened}>{summary}<div class="wide">{shown}</div></details>')
    return [*lines, f"<p>{_escape(more)}</p>" if (more := without_table(found)) else ""]


def _sorted_by(text: str) -> float | str | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None if text == "-" else text


def _runs(found: Comparison) -> str:
    """Every run behind the rows."""

    def shown(value: float | None) -> Cell:
        return ("-", None) if value is None else (f"{value:.{found.metric.digits}f}", value)

    body = []
    for i, g in enumerate(found.groups):
        for row in (documents.run_row(found, e) for e in g.entries):
            code = " ".join(str(row[key]) for key in ("kdx", "commit") if row[key])
            student = (row["student_key"][:12], row["student_key"])
            body.append(
                [
                    (str(i + 1), i + 1),
                    (row["run"], row["run"]),
                    (str(row["seed"]), row["seed"]),
                    *(shown(row[role]) for role in ("teacher", "baseline", "student", *found.roles)),
                    student,
                    (code, code),
                ]
            )
    own = [role.words for role in found.roles.values()]
    roles = [found.called("teacher").words, found.called("baseline").words, "student"]
    head = [(text, None) for text in ["#", "run", "seed", *roles, *own, "student's key", "code"]]
    return (
        f"<details><summary>Every run ({len(body)})</summary><div "
        f'class="wide">{_table(head, body)}</div></details>'
    )


def _list(items: Sequence[str], kind: str) -> str:
    return (
        f'<ul class="{kind}">{"".join(f"<li>{_escape(item)}</li>" for item in items)}</ul>' if items else ""
    )


def _escape(text: object) -> str:
    return html.escape(str(text), quote=True)
