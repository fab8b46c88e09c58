"""Tasks for tests that need no data set."""

from __future__ import annotations

from kdx.tasks.classification import Classification


def classification(classes: int) -> Classification:
    """One of so many classes, which are called by their numbers."""
    return Classification(classes=[str(number) for number in range(classes)])
