"""How values of a run's metrics are shown: see kdx.tasks.shown for which metrics a run has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kdx.core.metric import Metric, checked_metric
from kdx.tasks.shown import named_metric

_LIVE = "validation/"
_LARGE = 5000
"""Rows from which on a second decimal of per cent means something."""


@dataclass(frozen=True)
class Floor:
    """What knowing nothing attains in the metric that counts, and who attains it, in words."""

    value: float
    words: str


def floor_of(results: Mapping[str, Any] | None, split: str) -> Floor | None:
    """Of one split; None where the run does not say."""
    found = (((results or {}).get("floor") or {}).get(split)) or {}
    value = found.get("value")
    if value is None or not math.isfinite(value):
        return None
    return Floor(value, found.get("words") or "who knows nothing")


def finer(metric: Metric, rows: int) -> Metric:
    """The metric with as many decimals as so many test rows bear: per cent has one more on many rows."""
    return replace(metric, digits=metric.digits + 1) if metric.unit == "%" and rows >= _LARGE else metric


def cell(metric: Metric, value: float | None) -> str:
    """A value in a column whose head says the unit; "-" where there is none."""
    return "-" if value is None else metric.shown(value)


def with_unit(metric: Metric, value: float | None) -> str:
    """A value with its unit; "-" where there is none."""
    return "-" if value is None else metric.text(value)


def column(metric: Metric, split: str) -> str:
    """What heads the column of the metric that counts on a split: "validation %", "test RMSE"."""
    return metric.heading.replace("test", split, 1)


def live_metric(record: Mapping[str, Any]) -> Metric | None:
    """The metric that a record of a training has of validation, as its task shows it; None where it has
    none.
    """
    if record.get("metric"):
        return checked_metric(record["metric"], "metric of a record")
    for key in record:
        if key.startswith(_LIVE) and key != f"{_LIVE}loss":
            return named_metric(key.removeprefix(_LIVE))
    return None


def curve_of(metric: Metric) -> str:
    """What the metric on validation is called in metrics.jsonl and on TensorBoard."""
    return f"{_LIVE}{metric.name}"
