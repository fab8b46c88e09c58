"""The rounds of a run: a table, and the metric that counts over rounds, or over the answers that were bought,
as a picture, beside the teacher and the students alone, which know no rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdx.core.roles import ROLES, roles_of
from kdx.report.metric import cell, column
from kdx.report.run.canvas import Axes, ticks
from kdx.report.run.verdict import score
from kdx.tasks.shown import counting_metric, shown_metrics

ROUND, BOUGHT = "round", "answers bought"
_STUDENT = "student"
SHOWN = {"test": ("distilled", ROLES[_STUDENT].colour, 5), "validation": ("validation", "#9cc9b4", 4)}


def round_cells(results: Mapping) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of rounds; no rows where there was one round."""
    counts, agreement = counting_metric(results), shown_metrics(results).get("agreement")
    header = ["round", column(counts, "validation"), column(counts, "test")]
    if agreement:
        title = agreement.title.replace("the teacher", "the first teacher")
        header.append(f"{title} {agreement.unit.strip()}".rstrip())
    found = []
    for number, entry in enumerate(results.get("rounds") or [], 1):
        chosen = " (chosen)" if entry["key"] == results.get("round_chosen") else ""
        cells = [cell(counts, (entry.get(split) or {}).get(counts.name)) for split in ("validation", "test")]
        if agreement:
            cells.append(cell(agreement, (entry.get("test") or {}).get(agreement.name)))
        model = f" {entry['model']}" if "model" in entry else ""
        found.append([f"{number}{model}{chosen}", *cells])
    return header, found


def round_sentence(results: Mapping) -> str:
    """Why the round that counts is that one."""
    if results.get("round_by") == "chain":
        return "Each network is taught by the one above it, the first by the teacher."
    if results.get("round_by") == "last":
        return (
            "The last round counts: it has learned from all the answers that were bought, also where an "
            "earlier one was better on validation."
        )
    if not all("validation" in entry for entry in results.get("rounds") or []):
        return (
            "The last round counts, as there is no validation split to choose by (dataset.validation=0.1 "
            "would make one)."
        )
    return f"The round with the best validation {counting_metric(results).title} is the one that counts."


def steps(results: Mapping, audit: Mapping | None) -> tuple[str, list[int]]:
    """What the rounds are counted by, and where each stands: the answers bought so far, if any were bought,
    else its number.
    """
    count = len(results.get("rounds") or [])
    taught = audit["rounds"] if audit else []
    if len(taught) == count and any(
        entry["asked"] < entry["pool"] and not (entry.get("looked_at") or entry.get("given"))
        for entry in taught
    ):
        return BOUGHT, [entry["asked"] for entry in taught]
    return ROUND, list(range(1, count + 1))


def series(results: Mapping, places: Sequence[int]) -> dict[str, list[tuple[int, float]]]:
    """split -> (place, value of the metric that counts) of each round, for the splits that every round was
    measured on.
    """
    rounds, name = results["rounds"], counting_metric(results).name
    return {
        split: [(x, entry[split][name]) for x, entry in zip(places, rounds, strict=True)]
        for split in SHOWN
        if all(split in entry and entry[split].get(name) is not None for entry in rounds)
    }


def draw_rounds(results: Mapping, audit: Mapping | None, title: str) -> bytes:
    """results: of run.json, two rounds at least. The metric that counts on test, the distilled student's on
    validation too, all of the last weights.
    """
    counted, places = steps(results, audit)
    scale, roles = counting_metric(results).scale, roles_of(results)
    lines = {split: [(x, scale * y) for x, y in points] for split, points in series(results, places).items()}
    levels = {
        role: scale * value
        for role in roles
        if role != _STUDENT and (value := score(results, role, "last")) is not None
    }
    heights = [y for points in lines.values() for _, y in points] + list(levels.values())
    across = (
        [float(x) for x in places]
        if counted == ROUND and len(places) <= 12
        else ticks(min(places), max(places))
    )
    axes = Axes(across, ticks(min(heights), max(heights)), title, counted)
    keys = []
    for role, height in levels.items():
        axes.line([(axes.x[0], height), (axes.x[-1], height)], roles[role].colour, 3)
        keys.append((roles[role].short, roles[role].colour, 3))
    for split, points in lines.items():
        words, colour, width = SHOWN[split]
        axes.line(points, colour, width)
        for point in points:
            axes.draw.circle(axes.spot(*point), 7, fill=colour)
        keys.append((words, colour, width))
    axes.keys(keys[::-1])
    return axes.png()
