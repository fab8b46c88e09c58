"""The metrics that the tasks of kdx show, by name, and those that a run shows. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kdx.core.errors import UserError
from kdx.core.metric import Metric, checked_metric

ACCURACY = Metric("accuracy", "accuracy", 100, "%", 1, True, 0, 1, "points", "test %", share=True)
BALANCED_ACCURACY = Metric(
    "balanced_accuracy",
    "balanced accuracy",
    100,
    "%",
    1,
    True,
    0,
    1,
    "points",
    "balanced test %",
    column="none",
)
CALIBRATION_ERROR = Metric(
    "ece",
    "calibration error",
    1,
    "",
    3,
    False,
    0,
    1,
    head="ECE",
    note="ECE: expected calibration error, how far a model's confidence lies from how often it is right, on "
    "average over the test split (0 is perfect).",
)
NLL = Metric("nll", "NLL", 1, "", 3, False, 0, head="NLL", column="card")
AGREEMENT = Metric(
    "agreement",
    "agreement with the teacher",
    100,
    "%",
    1,
    True,
    0,
    1,
    "points",
    "agreement %",
    note="Agreement: share of test rows on which the model and the teacher name the same class.",
)
CLASSIFICATION = {
    metric.name: metric for metric in (ACCURACY, BALANCED_ACCURACY, CALIBRATION_ERROR, NLL, AGREEMENT)
}
"""Those of classification, the one that counts first."""
RMSE = Metric(
    "rmse", "RMSE", more=False, low=0, note="RMSE: the root of the mean squared error; less is better."
)
MSE = Metric("mse", "mean squared error", more=False, low=0)
MAE = Metric("mae", "mean absolute error", more=False, low=0, head="test MAE")
R2 = Metric(
    "r2", "R2", high=1, note="R2: the share of the variance that is explained (1 is perfect, the mean has 0)."
)
DISTANCE = Metric(
    "agreement",
    "distance from the teacher",
    more=False,
    low=0,
    head="from teacher",
    note="From teacher: the mean absolute difference of the model's numbers and the teacher's.",
)
RETURN = Metric(
    "return",
    "return",
    digits=1,
    note="Return: what the rewards of an episode add up to, the mean over those that begin in the test rows.",
)
SAME_ACTION = replace(
    AGREEMENT, note="Agreement: share of test rows in which the model and the teacher take the same action."
)

MAP = Metric(
    "map",
    "mAP",
    100,
    "%",
    1,
    True,
    0,
    1,
    "points",
    "test mAP %",
    note="mAP: COCO's mean average precision, over the classes and ten IoUs from .50 to .95.",
)
MAP_50 = Metric("map_50", "mAP at IoU .5", 100, "%", 1, True, 0, 1, "points", "mAP50 %")
BOX_F1 = Metric(
    "f1",
    "F1 of the boxes",
    100,
    "%",
    1,
    True,
    0,
    1,
    "points",
    "F1 %",
    note="F1: of a picture's sure boxes, at IoU .5.",
)
SAME_BOXES = replace(
    AGREEMENT, note="Agreement: F1 of the model's sure boxes, held against the teacher's, at IoU .5."
)


def named_metric(name: str) -> Metric:
    """The metric of that name; a plain one, called by its name, where kdx has none."""
    return CLASSIFICATION.get(name) or Metric(name, name.replace("_", " "))


def counting_metric(results: Mapping[str, Any] | None) -> Metric:
    """The metric of a run that counts: see `shown_metrics`."""
    return next(iter(shown_metrics(results).values()))


def shown_metrics(results: Mapping[str, Any] | None) -> dict[str, Metric]:
    """The metrics of a run by name, the one that counts first, from its results; those of classification
    where an older run names none. Raises UserError where they are not as kdx writes them.
    """
    counts, others = ((results or {}).get(key) for key in ("metric", "metrics"))
    if counts is None:
        return dict(CLASSIFICATION)
    first = checked_metric(counts, "results.metric")
    if not isinstance(others if others is not None else [], list):
        raise UserError("results.metrics must be a list")
    read = [checked_metric(one, "each of results.metrics") for one in others or ()]
    return {first.name: first} | {metric.name: metric for metric in read if metric.name != first.name}
