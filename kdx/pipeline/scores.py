"""The number on validation by which trainings are told apart, whatever it measures. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdx.core.metric import Metric
from kdx.store.artifact import Artifact
from kdx.tasks.shown import ACCURACY


def metric_of(data: Artifact) -> Metric:
    """What counts on a prepared data set, as its data.json says; one of before has none: ACCURACY."""
    said = data.json("data.json").get("metric")
    return Metric.read(said) if said else ACCURACY


def score_of(document: Mapping[str, Any]) -> float | None:
    """The value of that metric on validation, of a summary.json or an answers.json; older ones call it by
    the name of theirs. None where there is no such split, or nobody looked.
    """
    found: float | None = document.get("validation_score", document.get("validation_accuracy"))
    return found
