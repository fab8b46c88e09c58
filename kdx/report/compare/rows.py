"""A comparison as rows of text, for a terminal of any width. Pure functions of what
kdx.report.compare.compare made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kdx.report.compare.caveats import some
from kdx.report.compare.compare import Comparison, level
from kdx.report.compare.groups import Against, Group
from kdx.report.compare.references import OWN
from kdx.report.compare.statistics import LEVEL, chance, plus_minus
from kdx.report.run.units import magnitude, percent, three_figures

REFERENCE = "reference"
_BESIDE = ("baseline", "teacher")
"""What stands beside the student in a wide table, by its mean."""


def beside_columns(found: Comparison) -> dict[str, str]:
    """What stands beside the student in a wide table: role -> head of the column; roles of the runs' own
    last.
    """
    beside = {role: found.called(role).short for role in _BESIDE}
    return beside | {role: own.short for role, own in found.roles.items()}


def header(found: Comparison) -> list[str]:
    other = ["gain"]
    if found.reference != OWN:
        other = ["less reference" if found.metric.more else "below reference"]
    return [
        "",
        "n",
        found.metric.heading,
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
    row = [
        _with_epsilon(g),
        str(g.test.n),
        plus_minus(g.test.mean, g.test.deviation, digits),
        span(g.interval, digits),
    ]
    if g.is_reference:
        row += [REFERENCE, "", "", "", ""]
    else:
        row += difference_cells(g.against, digits)
    if found.reference != OWN:
        row.append(difference_cells(g.gain, digits)[0])
    return [*row, percent(g.gap_closed, 0)]


def _with_epsilon(g: Group) -> str:
    """What a row is called, with what its releases of private rows cost, each."""
    found = sorted({f"{e.epsilon:.2f}" for e in g.entries if e.epsilon is not None}, key=float)
    return f"{g.name} (epsilon {' to '.join(dict.fromkeys((found[0], found[-1])))})" if found else g.name


def difference_cells(a: Against | None, digits: int) -> list[str]:
    """By how much it is better, the interval of that, wins, p, corrected p. Where some seeds have no pair,
    the number of pairs is in `wins`.
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
    return chance(a.holm) + (" n.s." if a.holm is not None and a.holm >= LEVEL else "")


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
        f"each run's own matched baseline, the {found.called('baseline').words}"
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


def column_words(found: Comparison) -> list[tuple[str, str]]:
    """(head of a column, what it means, plainly) of those that need it."""
    alone = found.called("baseline").words
    other = f"the {alone}" if found.reference == OWN else "the reference"
    _, n, test, interval, difference, _, wins, p, corrected, *_ = header(found)
    several = any(g.test.n > 1 for g in found.groups)
    known: list[tuple[str, str]] = []
    if any(g.test.n > 1 for g in found.groups):
        known += [
            (f"{n}, {test}", "number of seeds; mean over them ± how far they lie apart (standard deviation)"),
            (interval, "in 95 of 100 such experiments it holds the mean of very many seeds"),
        ]
    better = f"by how much the student is better than {other}"
    if found.reference == OWN:
        known.append(("gain", f"{better}: the same network, trained as long without a teacher"))
    else:
        known.append((difference, f"{better}, seed by seed"))
    known.append((wins, f"in how many seeds it is better than {other} of the same seed (paired)"))
    if found.comparisons:
        luck = f"n.s. (not significant): {LEVEL} or more, so that the difference may be luck"
        several = (
            f"the same, made larger as {found.comparisons} rows are tested"
            if found.comparisons > 1
            else "as p, since one row is tested"
        )
        known += [
            (p, "how often seeds alone would bring so large a mean difference if there were none"),
            (corrected, f"{several}; {luck}"),
        ]
    if any(g.gap_closed is not None for g in found.groups):
        ahead = f"what the {found.called('teacher').words} is ahead of the {alone}"
        known.append(("gap closed", f"the gain, as a part of {ahead}"))
    return known


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


def beside(found: Comparison, g: Group) -> list[str]:
    """Means of the student alone, of the teacher, and of the runs' own roles."""
    return [
        "-" if (mean := level(found, g, role)) is None else plus_minus(mean, None, found.metric.digits)
        for role in beside_columns(found)
    ]


def student_size(g: Group) -> list[str]:
    """Of the student: parameters, MFLOPs, latency in ms."""
    count, flops = g.mean("student", "parameters"), g.mean("student", "flops")
    return [
        magnitude(None if count is None else round(count)),
        three_figures(None if flops is None else flops / 1e6),
        three_figures(g.mean("student", "latency_ms")),
    ]
