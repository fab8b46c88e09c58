"""The metrics that the tasks of kdx show, by name. No torch."""

from __future__ import annotations

from kdx.core.metric import Metric

ACCURACY = Metric("accuracy", "accuracy", 100, "%", 1, True, 0, 1, "points")
BALANCED_ACCURACY = Metric("balanced_accuracy", "balanced accuracy", 100, "%", 1, True, 0, 1, "points")
CALIBRATION_ERROR = Metric("ece", "calibration error", 1, "", 3, False, 0, 1)
NLL = Metric("nll", "NLL", 1, "", 3, False, 0)
AGREEMENT = Metric("agreement", "agreement with the teacher", 100, "%", 1, True, 0, 1, "points")
CLASSIFICATION = {
    metric.name: metric for metric in (ACCURACY, BALANCED_ACCURACY, CALIBRATION_ERROR, NLL, AGREEMENT)
}
"""Those of classification, the one that counts first."""
