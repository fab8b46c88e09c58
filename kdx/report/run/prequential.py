"""What networks that go with a stream knew of each chunk before they learned it, from run.json alone:
results.prequential, as kdx.pipeline.stages.prequential writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from kdx.core.roles import Role, known_roles
from kdx.report.metric import cell
from kdx.report.run.canvas import Axes, ticks
from kdx.tasks.shown import counting_metric

TEST_THEN_TRAIN = "test_then_train"
"""What the mean over the chunks, each before it is learned, is called among the metrics."""
_FEW = 12
"""Chunks up to which each has a column."""


def _arms(results: Mapping[str, Any]) -> Iterator[tuple[str, Role, Mapping[str, Any]]]:
    arms = (results.get("prequential") or {}).get("arms") or {}
    for name, role in known_roles(results).items():
        found = arms.get(name) or {}
        if found.get("by_chunk") and found.get("mean") is not None:
            yield name, role, found


def with_chunk_metric(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results with the mean over the chunks as a metric of each role, beside those of the test split, so
    that comparisons know it."""
    found, counts = dict(results), counting_metric(results)
    for name, _, arm in _arms(results):
        last = found[name]["last"]
        found[name] = {
            **found[name],
            "last": {**last, "test": {**last["test"], TEST_THEN_TRAIN: arm["mean"]}},
        }
    head = f"test-then-train {counts.unit.strip() or counts.title}"
    shown = replace(
        counts, name=TEST_THEN_TRAIN, title=f"test-then-train {counts.title}", share=False, head=head
    )
    shown = replace(shown, note="", column="none")
    return {**found, "metrics": [*found["metrics"], shown.document()]}


def chunk_cells(results: Mapping[str, Any], short: bool = False) -> tuple[list[str], list[list[str]]]:
    """Header and rows; no rows of a run that is no stream. short: the means alone."""
    counts, found = counting_metric(results), results.get("prequential") or {}
    shown = [] if short or len(found.get("chunks") or []) > _FEW else found.get("chunks") or []
    rows = [
        [
            role.short if short else role.words,
            cell(counts, arm["mean"]),
            *(cell(counts, value) for value in arm["by_chunk"][: len(shown)]),
        ]
        for _, role, arm in _arms(results)
    ]
    return [f"{counts.labelled} before chunk", "all", *map(str, shown)], rows


def chunk_gain(results: Mapping[str, Any], at_end: float) -> list[str]:
    """By how much the student is better than the student alone, before each chunk is learned. at_end: on the
    test split, when all is learned, as run.json has it."""
    counts, means = counting_metric(results), {name: arm["mean"] for name, _, arm in _arms(results)}
    if not {"student", "baseline"} <= means.keys():
        return []
    gain, unit = counts.gain(means["student"], means["baseline"]), counts.gains or counts.unit.strip()
    rows, chunks = (results["prequential"].get(key) or [] for key in ("rows", "chunks"))
    return [
        f"Gain of distillation on what comes next: {counts.difference(gain)} {unit} of {counts.title}, over "
        f"{sum(rows):,} rows of {len(chunks)} chunks, each tested on before it was learned. At the end, on "
        f"the test split: {counts.difference(at_end)} {unit}."
    ]


def draw_chunks(results: Mapping[str, Any], title: str) -> bytes:
    """The metric of each chunk before it is learned."""
    scale, chunks = counting_metric(results).scale, results["prequential"]["chunks"]
    lines = [
        (role, [(float(x), scale * y) for x, y in zip(chunks, arm["by_chunk"], strict=True)])
        for _, role, arm in _arms(results)
    ]
    heights = [y for _, points in lines for _, y in points]
    across = [float(x) for x in chunks] if len(chunks) <= _FEW else ticks(min(chunks), max(chunks))
    axes = Axes(across, ticks(min(heights), max(heights)), title, "chunk")
    for role, points in lines:
        axes.line(points, role.colour)
    axes.keys([(role.short, role.colour, 6) for role, _ in lines])
    return axes.png()
