"""What networks that learned one session after another still know of each, in words, tables and a figure,
from run.json alone: results.sessions, as kdx.pipeline.stages.sessions writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from kdx.core.metric import Metric
from kdx.core.roles import Role, known_roles
from kdx.report.metric import cell
from kdx.report.run.canvas import Axes, ticks
from kdx.tasks.shown import counting_metric

_WAYS = {"task": "by task", "single": "single head"}
"""How rows are answered: among the classes of their own session, or of all that have come so far."""
_SUMMED = {"average": "average", "old": "old sessions", "last": "last one"}
_COMPARED = {"forgetting": "forgetting", "backward": "backward transfer"}
"""Keys of a summary, in the order of the table: values of the metric, and differences of such."""
_AS_METRICS = {
    "average": ("average", "average over the sessions", True),
    "old": ("old_sessions", "mean of the old sessions", True),
    "last": ("last_session", "last session", True),
    "forgetting": ("forgetting", "forgetting", False),
    "backward": ("backward_transfer", "backward transfer", True),
}
"""Key of a summary -> name, title and whether more is better, where comparisons have it as a metric."""
_Cells = tuple[list[str], list[list[str]]]


def with_session_metrics(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results with what sums up the sessions, answered as all else of the run, as metrics of each role
    on the test split."""
    found, counts = dict(results), counting_metric(results)
    way = results["sessions"].get("way", "single")
    for role, arm in results["sessions"]["arms"].items():
        if role in found and way in arm:
            summed = {name: arm[way][key] for key, (name, _, _) in _AS_METRICS.items()}
            last = found[role]["last"]
            found[role] = {**found[role], "last": {**last, "test": {**last["test"], **summed}}}
    shown = [_as_metric(counts, *about) for about in _AS_METRICS.values()]
    return {**found, "metrics": [*found["metrics"], *(metric.document() for metric in shown)]}


def _as_metric(counts: Metric, name: str, title: str, more: bool) -> Metric:
    """In the unit of the metric that counts, which is a mean over rows: a sum is none, and may be below 0."""
    ends = (counts.low, counts.high)
    if name in ("forgetting", "backward_transfer"):
        ends = (None, None)
    low, high = ends
    plain = replace(counts, share=False, head="", note="", column="none")
    return replace(plain, name=name, title=title, more=more, low=low, high=high)


def _arms(results: Mapping[str, Any]) -> Iterator[tuple[Role, str, Mapping[str, Any]]]:
    """(role, way, its summary), the roles in the order of the table."""
    arms = (results.get("sessions") or {}).get("arms") or {}
    for name, role in known_roles(results).items():
        for way in _WAYS:
            found = (arms.get(name) or {}).get(way)
            if found and found.get("matrix"):
                yield role, way, found


def session_cells(results: Mapping[str, Any], short: bool = False) -> _Cells:
    """Header and rows of the summaries; no rows of a run without sessions."""
    counts = counting_metric(results)
    several = len({way for _, way, _ in _arms(results)}) > 1
    rows = [
        [
            f"{role.short if short else role.words}{f', {_WAYS[way]}' if several else ''}",
            *(cell(counts, found.get(key)) for key in _SUMMED),
            *(_difference(counts, found.get(key)) for key in _COMPARED),
        ]
        for role, way, found in _arms(results)
    ]
    return [f"test {counts.labelled} after the last session", *_SUMMED.values(), *_COMPARED.values()], rows


def _difference(counts: Metric, value: float | None) -> str:
    return "-" if value is None else counts.difference(value)


def session_sentences(results: Mapping[str, Any]) -> list[str]:
    """What the numbers of the table mean."""
    ways = {way for _, way, _ in _arms(results)}
    if not ways:
        return []
    count = len(results["sessions"].get("names") or [])
    lines = [
        f"{count} sessions. Average: the mean over all sessions' test rows; forgetting: how "
        "much more of an old session was known at best; backward transfer: what later sessions added to it."
    ]
    if "task" in ways:
        way = results["sessions"].get("way", "single")
        beside = ", as in the other tables"
        lines.append(
            "By task a row is answered among the classes of its own session, which must then be known where "
            f"the network is used{beside if way == 'task' else ''}; on a single head"
            f"{beside + ',' if way == 'single' else ''} among all classes."
        )
    return lines


def session_gains(results: Mapping[str, Any], gain: float) -> list[str]:
    """By how much the student is better than fine-tuning, which is the student alone. gain: as run.json has
    it."""
    arms, counts = results["sessions"].get("arms") or {}, counting_metric(results)
    alone, student = (arms.get(role) or {} for role in ("baseline", "student"))
    gains = []
    for way, words in _WAYS.items():
        means = [(of.get(way) or {}).get("average") for of in (student, alone)]
        if means[0] is not None and means[1] is not None:
            gains.append(f"{counts.difference(counts.gain(means[0], means[1]))} {words}")
    if not gains:
        return []
    unit = counts.gains or counts.unit.strip()
    return [
        f"Gain over fine-tuning, which is the student alone: {counts.difference(gain)} {unit} of test "
        f"{counts.title} over all rows as they are; of the average over the sessions {', '.join(gains)}."
    ]


def session_matrices(results: Mapping[str, Any]) -> Iterator[tuple[str, _Cells]]:
    """(what it is of, header and rows): the metric of each session's test rows after each session."""
    counts, names = counting_metric(results), (results.get("sessions") or {}).get("names") or []
    for role, way, found in _arms(results):
        rows = [
            [
                f"after {names[number]}",
                *(cell(counts, value) for value in row),
                *[""] * (len(names) - len(row)),
            ]
            for number, row in enumerate(found["matrix"])
        ]
        yield f"{role.words}, {_WAYS[way]}", ([f"test {counts.labelled} of", *names], rows)


def draw_sessions(results: Mapping[str, Any], title: str) -> bytes:
    """The mean over the sessions so far after each of them: by task thick, on a single head thin."""
    scale = counting_metric(results).scale
    lines = [
        (role, way, [(i + 1, scale * sum(row) / len(row)) for i, row in enumerate(found["matrix"])])
        for role, way, found in _arms(results)
    ]
    heights = [y for _, _, points in lines for _, y in points]
    count = len(results["sessions"]["names"])
    axes = Axes([float(x) for x in range(1, count + 1)], ticks(min(heights), max(heights)), title, "session")
    both = len({way for _, way, _ in lines}) > 1
    for role, way, points in lines:
        axes.line(points, role.colour, 2 if both and way == "single" else 5)
    axes.keys([(role.short, role.colour, 6) for role, way, _ in lines if not (both and way == "single")])
    return axes.png()
