"""Which pictures a run's report has, from its run.json and what was recorded while it trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from kdx.core.roles import known_roles, roles_of
from kdx.report.metric import curve_of
from kdx.report.run import figures, matrices, prequential, rounds, sessions, shifts
from kdx.report.run.audit import chosen_round
from kdx.report.run.canvas import pasted_together
from kdx.report.run.gallery import draw_pictures
from kdx.report.run.reliability import diagram, draw_reliability
from kdx.report.run.units import decimals
from kdx.report.run.verdict import measured_on
from kdx.tasks.shown import counting_metric

Series = Mapping[str, Mapping[str, list[tuple[int, float]]]]
"""Name of a curve -> what it is of -> (step, value)."""
LOSS = "train/loss"
PICTURED = "predictions"
"""The tag of the picture that shows rows of the data."""


class Drawn(NamedTuple):
    """caption: in report.md. tag: on TensorBoard, and the name of its file. parts: what TensorBoard, whose
    cards are small, shows instead: tag -> PNG.
    """

    caption: str
    tag: str
    png: bytes
    parts: Mapping[str, bytes] = {}


def figures_of(
    results: Mapping[str, Any], audit: Mapping[str, Any] | None, examples: Mapping | None, series: Series
) -> Iterator[Drawn]:
    """In the order of the report. examples: as in `RunFolder.finish`."""
    if examples and examples.get("images") is not None and len(examples["images"]):
        whole, few = (
            draw_pictures(
                examples["images"],
                examples["truth"],
                examples["predictions"],
                results.get("classes") or [],
                known_roles(results),
                examples,
                few,
            )
            for few in (False, True)
        )
        yield Drawn("Test pictures with predictions", PICTURED, whole, {PICTURED: few})
    yield from _of_test(results)
    if results.get("prequential"):
        words = f"{_title(results)[:1].upper()}{_title(results)[1:]} of each chunk before it is learned"
        yield Drawn(words, "prequential", prequential.draw_chunks(results, words))
    if results.get("sessions"):
        words = f"Mean test {_title(results)} of the sessions so far"
        yield Drawn(words, "sessions", sessions.draw_sessions(results, words))
    for kind, which in (("shifts", "shifted"), ("attacks", "attacked")):
        if under := shifts.under_shifts(results, kind):
            words = f"Test {_title(results)} on {which} pictures"
            drawn = figures.draw_bars(under, words, counting_metric(results), roles_of(results))
            yield Drawn(words, kind, drawn)
    if audit:
        yield from _of_audit(audit, results)
    if len(results.get("rounds") or []) > 1:
        counted, _ = rounds.steps(results, audit)
        title = _title(results)
        words = f"{title[0].upper()}{title[1:]} by {counted}"
        yield Drawn(words, "rounds", rounds.draw_rounds(results, audit, words))
    yield from _curves(results, series)


def _title(results: Mapping[str, Any]) -> str:
    """The metric that counts, with its unit: "accuracy (%)"."""
    counts = counting_metric(results)
    return f"{counts.title} ({counts.unit.strip()})" if counts.unit.strip() else counts.title


def _of_test(results: Mapping[str, Any]) -> Iterator[Drawn]:
    """What the test split shows of each role."""
    roles = roles_of(results)
    test = {role: measured_on(results, role, results["headline"]) for role in roles}
    found: dict[tuple[str, str], dict[str, bytes]] = {}
    for role, numbers in test.items():
        if numbers.get("confusion"):
            drawn = matrices.draw_confusion(numbers["confusion"], results["classes"], roles[role].words)
            found.setdefault(("Confusion on the test split", "confusion"), {})[role] = drawn
    for role, numbers in test.items():
        if numbers.get("reliability"):
            answers = sum(numbers["reliability"]["counts"])  # of rows with several, each
            title = f"{roles[role].words} (ECE {decimals(numbers['ece'], 3)}, n = {answers:,})"
            drawn = diagram(numbers["reliability"], title, roles[role].colour)
            found.setdefault(("Reliability on the test split", "reliability"), {})[role] = drawn
    for role, numbers in test.items():
        for figure in numbers.get("figures") or []:
            title = f"{figure['title']}: {roles[role].words}"
            drawn = figures.draw_figure(figure, title, roles[role].colour)
            found.setdefault((figure["title"], figure["tag"]), {})[role] = drawn
    for (words, tag), parts in found.items():
        whose = ", ".join(roles[role].words for role in parts)
        single = (
            {f"{tag}/{roles[role].words}": part for role, part in parts.items()} if len(parts) > 1 else {}
        )
        yield Drawn(f"{words}: {whose}", tag, pasted_together(list(parts.values())), single)


def _of_audit(audit: Mapping[str, Any], results: Mapping[str, Any]) -> Iterator[Drawn]:
    last, teacher = chosen_round(audit, results)[0], audit.get("teacher") or {}
    found = {"confidence": ("Confidence of the pseudo-labels kept (clean pictures)", last.get("confidence"))}
    found["teacher-confidence"] = ("Confidence of the teacher on validation", teacher.get("reliability"))
    found |= {
        f"monitor-{name}": (f"{name} of each pool row", monitor.get("histogram"))
        for name, monitor in (last.get("monitors") or {}).items()
    }
    for tag, (words, histogram) in found.items():
        if histogram:
            yield Drawn(words, f"audit/{tag}", figures.bars(histogram, words))
    curves = last.get("curves") or {}
    if last.get("validation_margins") and any(name.startswith("margin/") for name in curves):
        words = "Reliability of the teacher"
        yield Drawn(words, "audit/margins", draw_reliability(last["validation_margins"], curves, words))


def _curves(results: Mapping[str, Any], series: Series) -> Iterator[Drawn]:
    """Over training, of the roles; those of single rounds, sessions and further teachers are TensorBoard's:
    what a network of sessions knows at last is not what its validation of one session says.
    """
    counts, known = counting_metric(results), known_roles(results)
    shown = {
        curve_of(counts): (f"Validation {_title(results)}", counts.scale),
        LOSS: ("Training loss", 1.0),
    }
    for curve, (words, scale) in shown.items():
        lines = {role: points for role, points in series.get(curve, {}).items() if role in known}
        if not results.get("sessions") and any(len(points) > 1 for points in lines.values()):
            drawn = figures.draw_curves(lines, words, scale, known)
            yield Drawn(f"{words} over training", f"curves/{curve.replace('/', '-')}", drawn)
