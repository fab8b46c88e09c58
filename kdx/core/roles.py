"""The roles of a run's networks, each with the stage that trains it."""

from __future__ import annotations

ROLES = {
    "teacher": "teacher-pretrain",
    "noiseless": "noiseless-train",
    "baseline": "baseline-train",
    "student": "student-train",
    "ceiling": "ceiling-train",
    "validation_labels": "validation-labels-train",
}
