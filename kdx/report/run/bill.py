"""What the answers of a run cost that were bought, beside what they gained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdx.core.metric import Metric
from kdx.report.run.audit import chosen_round


def bill_of(audit: Mapping | None, results: Mapping, price: float | None, seconds: float | None) -> dict:
    """{"answers", and where they are said "price" and "cost", "seconds" and "time" (s)} of a run that bought
    answers; {} where neither is said, or nothing was bought. price, seconds: of one answer."""
    if not audit or (price is None and seconds is None):
        return {}
    answers = chosen_round(audit, results)[0]["asked"]
    found: dict[str, Any] = {"answers": answers}
    if price is not None:
        found |= {"price": price, "cost": round(price * answers, 6)}
    if seconds is not None:
        found |= {"seconds": seconds, "time": round(seconds * answers, 6)}
    return found


def bill_sentences(results: Mapping, gain: float | None, counts: Metric) -> list[str]:
    """gain: of the distilled student over the student alone, None where it is not known."""
    bill = results.get("bill")
    if not bill:
        return []
    parts = []
    if "cost" in bill:
        parts.append(f"{bill['cost']:,.2f} at {bill['price']:g} each")
    if "time" in bill:
        parts.append(f"{in_hours(bill['time'])} of answering at {bill['seconds']:g} s each")
    end = ""
    if gain is not None:
        unit = f" {counts.gains}" if counts.gains else ""
        end = f", for a gain of {counts.difference(gain)}{unit}"
        points = gain * counts.scale
        if "cost" in bill and points > 0:
            end += f" ({bill['cost'] / points:,.2f} for one{unit.rstrip('s') or ' of it'})"
    return [f"The bill: {bill['answers']:,} answers bought, {' and '.join(parts)}{end}."]


def in_hours(seconds: float) -> str:
    """ "45 s", "12.5 min", "3.2 h" """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
