"""The student with every label there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kdx.pipeline.controls.control import Control, StudentAlone, altered
from kdx.store.component import Component


class Ceiling(Control):
    """As the baseline, with the pool's hidden labels too."""

    noun = "ceiling"
    also = "unlabelled"

    def training(self, alone: StudentAlone) -> Component:
        return altered(alone.training, rows=None)

    def errors(self, sizes: Mapping[str, Any], rows: Mapping[str, int]) -> Iterator[str]:
        if sizes["labelled"] is None or sizes["unlabelled"] == 0:
            yield (
                "ceiling=true trains a student on the pool's hidden labels, and this run hides none: "
                "set dataset.labelled=0.1, say, or ceiling=false"
            )
