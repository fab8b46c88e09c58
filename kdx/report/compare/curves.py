"""Curves of a run out of its metrics.jsonl, which may be somebody else's: read line by line, what does not
fit is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from kdx.core.metric import Metric
from kdx.core.shapes import LARGEST_NUMBER

_STAGES = {"student-train": "student", "baseline-train": "baseline"}
FURTHEST = 1e15
"""Beyond this no step lies."""
LONGEST_LINE, LONGEST_FILE = 100_000, 64 << 20
"""Bytes: of a line, and of a file that is read."""


def read_curves(folder: Path, metric: Metric) -> dict[str, list[tuple[int, float]]]:
    """role -> (step, the metric on validation as it was measured), in order of the steps; a role without any
    is absent.
    """
    key = f"validation/{metric.name}"
    found: dict[str, dict[int, float]] = {}
    marked = json.dumps(key)[1:-1].encode()
    for line in metric_lines(folder):
        if marked in line:
            _take(line, key, metric, found)
    return {role: sorted(points.items()) for role, points in found.items()}


def metric_lines(folder: Path) -> Iterator[bytes]:
    """Of its metrics.jsonl, but those that are longer than any record; none of a file that is too long, no
    file, or not to be read."""
    file = folder / "metrics.jsonl"
    try:
        if not file.is_file() or file.stat().st_size > LONGEST_FILE:  # a pipe would be waited for
            return
        with file.open("rb") as lines:
            yield from (line for line in lines if len(line) < LONGEST_LINE)
    except OSError:
        return


def _take(line: bytes, key: str, metric: Metric, found: dict[str, dict[int, float]]) -> None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return
    if not isinstance(record, dict):
        return
    step, value, role = record.get("step"), record.get(key), _STAGES.get(str(record.get("stage")))
    numbers = all(type(v) in (int, float) for v in (step, value))
    low = -LARGEST_NUMBER if metric.low is None else metric.low
    high = LARGEST_NUMBER if metric.high is None else metric.high
    if role and numbers and low <= value <= high and 0 <= step <= FURTHEST:
        found.setdefault(role, {})[int(step)] = float(value)
