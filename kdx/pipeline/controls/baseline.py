"""The matched baseline."""

from __future__ import annotations

from kdx.pipeline.controls.control import Control


class Baseline(Control):
    """The student alone: model, initialisation, augmentation, steps and batch size of the distilled one."""

    noun = "baseline"
