"""The student with the labels of validation, which some methods read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kdx.pipeline.controls.control import Control


class ValidationLabels(Control):
    """As the baseline, with the labels of validation too: what methods that read these must beat."""

    noun = "student on validation labels too"
    also = "validation"

    def errors(self, sizes: Mapping[str, Any], rows: Mapping[str, int]) -> Iterator[str]:
        if rows and not rows["validation"]:
            yield (
                "validation_labels=true trains a student on the validation labels too, and this run has no "
                "validation split: set dataset.validation=0.1, say, or validation_labels=false"
            )
