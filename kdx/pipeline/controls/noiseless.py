"""The student alone without noise."""

from __future__ import annotations

from kdx.pipeline.controls.control import Control, StudentAlone, altered
from kdx.store.component import Component

_NOISE = ("dropout", "stochastic_depth")


class Noiseless(Control):
    """As the baseline, without augmentation, dropout and stochastic depth."""

    noun = "noiseless student"

    def model(self, alone: StudentAlone) -> Component:
        return altered(alone.model, **{key: 0.0 for key in _NOISE if key in alone.model.spec})

    def training(self, alone: StudentAlone) -> Component:
        return altered(alone.training, augment=[])
