"""student-train and baseline-train: a network learns from labels and, where the loss asks for it, from a
teacher's answers.
"""

from __future__ import annotations

from typing import Any

from kdx.pipeline.stages.learn import learn
from kdx.pipeline.stages.parts import TrainInputs
from kdx.store.work import Work
from kdx.training.runtime import Runtime


def run(work: Work, runtime: Runtime, **inputs: Any) -> None:
    """Inputs and files: see kdx.pipeline.stages.learn."""
    learn(work, runtime, TrainInputs(**inputs))
