"""Accuracy over rounds, or over the answers that were bought, as a picture: beside the teacher and the
students alone, which know no rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdx.report.run.figures import ROLE_COLOURS, SHORT, Axes, ticks
from kdx.report.run.verdict import ROLE_WORDS, metric

ROUND, BOUGHT = "round", "answers bought"
SHOWN = {"test": ("distilled", ROLE_COLOURS["student"], 5), "validation": ("validation", "#9cc9b4", 4)}
LEVELS = tuple(role for role in ROLE_WORDS if role != "student")


def steps(results: Mapping, audit: Mapping | None) -> tuple[str, list[int]]:
    """What the rounds are counted by, and where each stands: the answers bought so far, if any were bought,
    else its number.
    """
    count = len(results.get("rounds") or [])
    taught = audit["rounds"] if audit else []
    if len(taught) == count and any(entry["asked"] < entry["pool"] for entry in taught):
        return BOUGHT, [entry["asked"] for entry in taught]
    return ROUND, list(range(1, count + 1))


def series(results: Mapping, places: Sequence[int]) -> dict[str, list[tuple[int, float]]]:
    """split -> (place, accuracy) of each round, for the splits that every round was measured on"""
    rounds = results["rounds"]
    return {
        split: [(x, entry[split]["accuracy"]) for x, entry in zip(places, rounds, strict=True)]
        for split in SHOWN
        if all(split in entry for entry in rounds)
    }


def draw_rounds(results: Mapping, audit: Mapping | None, title: str) -> bytes:
    """results: of run.json, two rounds at least. Test accuracy in per cent, the distilled student's on
    validation too, all of the last weights.
    """
    counted, places = steps(results, audit)
    lines = {split: [(x, 100 * y) for x, y in points] for split, points in series(results, places).items()}
    levels = {
        role: 100 * value
        for role in LEVELS
        if (value := metric(results, role, "last", "test", "accuracy")) is not None
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
        axes.line([(axes.x[0], height), (axes.x[-1], height)], ROLE_COLOURS[role], 3)
        keys.append((SHORT[role], ROLE_COLOURS[role], 3))
    for split, points in lines.items():
        words, colour, width = SHOWN[split]
        axes.line(points, colour, width)
        for point in points:
            axes.draw.circle(axes.spot(*point), 7, fill=colour)
        keys.append((words, colour, width))
    for i, key in enumerate(reversed(keys)):
        axes.key(124 * i, *key)
    return axes.png()
