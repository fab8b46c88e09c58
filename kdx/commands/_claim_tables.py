"""What `kdx reproduce` prints of a claim: figures, differences, verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kdx.commands._show import show_table
from kdx.core.errors import UserError
from kdx.core.metric import Metric
from kdx.report.compare.statistics import chance, holm, paired, plus_minus, spread, verdict
from kdx.runs.claims import UNITS, Claim

Values = dict[str, list[float]]
"""Figure -> its value with each seed."""
Metrics = dict[str, Metric]
"""Figure -> how it is shown and compared."""


def compared_pairs(claim: Claim, values: Values, metrics: Metrics) -> list[dict[str, Any]]:
    """Each pair of the claim in its figures' unit; `verdict` is None for a control. Where the claim says so
    it goes by `p_holm`, p corrected for the number of claimed pairs. Raises UserError for a pair that cannot
    be compared.
    """
    found = []
    for pairs, counts in ((claim.claimed, True), (claim.beside, False)):
        for pair in pairs:
            of, other = metrics[pair.more], metrics[pair.less]
            if (of.unit, of.scale, of.more) != (other.unit, other.scale, other.more):
                raise UserError(
                    f"{pair.more} is {of.meaning} and {pair.less} {other.meaning}: only alike figures can be "
                    "compared"
                )
            more, less = ([of.scale * v for v in values[name]] for name in (pair.more, pair.less))
            tested = paired(more, less) if of.more else paired(less, more)
            found.append((pair, tested, _unit(of), counts))
    ps = holm([tested.p if counts else None for _, tested, _, counts in found])
    return [
        {
            **vars(pair),
            **vars(tested),
            **({"p_holm": p} if claim.corrected and counts else {}),
            "unit": unit,
            "verdict": verdict(replace(tested, p=p) if claim.corrected else tested) if counts else None,
        }
        for (pair, tested, unit, counts), p in zip(found, ps, strict=True)
    ]


def _unit(metric: Metric) -> str:
    """What a difference is counted in: "points", "share", or the metric itself."""
    return metric.gains or metric.unit.strip() or metric.title


def _named(metrics: Metrics, name: Callable[[Metric], str]) -> str:
    """At the head of a column: "points, or share" """
    share = UNITS["share"].title
    found = dict.fromkeys(name(m) for m in metrics.values() if m.title != share)
    return f"{', '.join(found)}, or {share}" if found else share


def show_claim(claim: Claim, values: Values, metrics: Metrics, pairs: Sequence[Mapping[str, Any]]) -> None:
    rows = []
    for name, found in values.items():
        of = metrics[name]
        own = spread([of.scale * v for v in found])
        rows.append(
            [
                name,
                str(own.n),
                plus_minus(own.mean, own.deviation, of.digits),
                f"{own.low:.{of.digits}f} to {own.high:.{of.digits}f}",
            ]
        )
    print()
    values_in = _named(metrics, lambda m: f"{m.title} in {m.unit.strip()}" if m.unit.strip() else m.title)
    show_table(
        f"{claim.title}\n{claim.by}. Measured before: {claim.measured}",
        [values_in, "n", "mean ± deviation", "from, to"],
        rows,
    )
    rows = []
    for pair in pairs:
        digits = metrics[pair["more"]].digits
        rows.append(
            [
                f"{pair['more']} - {pair['less']}" + (f" ({pair['what']})" if pair["what"] else ""),
                plus_minus(pair["mean"], pair["deviation"], digits, signed=True),
                f"{pair['wins']}/{pair['n']}",
                chance(pair["p"]),
                *([chance(pair["p_holm"]) if "p_holm" in pair else "-"] if claim.corrected else []),
                "-" if pair["difference"] is None else f"{pair['difference']:+z.{digits}f}",
                pair["verdict"] or "control",
            ]
        )
    below = [
        "Paired by seed; p: two-sided paired t-test, uncorrected."
        + (
            f" A verdict goes by p corrected for the number of claimed pairs, {len(claim.claimed)} (Holm)."
            if claim.corrected
            else ""
        )
        + (" One seed has no p: give --seeds 5." if pairs[0]["n"] == 1 else "")
    ]
    if not all(metrics[pair["more"]].more for pair in pairs):
        below.append("Where less is better, a difference above 0 says that the first has less.")
    show_table(
        "",
        [
            *("difference", _named(metrics, _unit), "wins", "p"),
            *(["p (Holm)"] if claim.corrected else []),
            *("claimed", "verdict"),
        ],
        rows,
        [*below, *([claim.remarks] if claim.remarks else [])],
    )
