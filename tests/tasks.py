"""Tasks for tests that need no data set."""

from __future__ import annotations

from kdx.tasks.classification import Classification


def classification(classes: int) -> Classification:
    """One of so many classes, which are called by their numbers."""
    return Classification(classes=[str(number) for number in range(classes)])


PLAIN_LOGITS = {"standardise": False, "wrong": "keep", "adaptive": "none"}
"""The keys of losses on logits that change them, as conf/loss/ has them."""
