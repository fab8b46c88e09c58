"""No term on hidden features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from kdx.core.types import Features, Inputs, Parts


class NoFeatures(Features):
    """Adds no term, and needs no live teacher."""

    reads: ClassVar[tuple[str, ...]] = ()

    def __init__(self, parts: Parts):
        super().__init__()

    def forward(self, inputs: Inputs) -> Mapping[str, Tensor]:
        return {}
