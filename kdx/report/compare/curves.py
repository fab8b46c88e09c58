"""Curves of a run out of its metrics.jsonl, which may be somebody else's: read line by line, what does not
fit is passed over.
"""

from __future__ import annotations

import json
from pathlib import Path

from kdx.core.metric import Metric
from kdx.core.shapes import LARGEST_NUMBER

_STAGES = {"student-train": "student", "baseline-train": "baseline"}
FURTHEST = 1e15
"""Beyond this no step lies."""
LONGEST_LINE, _MOST = 100_000, 64 << 20
"""Bytes: of a line, and of a file that is read."""


def read_curves(folder: Path, metric: Metric) -> dict[str, list[tuple[int, float]]]:
    """role -> (step, the metric on validation as it was measured), in order of the steps; a role without any
    is absent.
    """
    key = f"validation/{metric.name}"
    found: dict[str, dict[int, float]] = {}
    file = folder / "metrics.jsonl"
    try:
        if not file.is_file() or file.stat().st_size > _MOST:  # a pipe would be waited for
            return {}
        with file.open("rb") as lines:
            for line in lines:
                if json.dumps(key)[1:-1].encode() in line and len(line) < LONGEST_LINE:
                    _take(line, key, metric, found)
    except OSError:
        return {}
    return {role: sorted(points.items()) for role, points in found.items()}


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
