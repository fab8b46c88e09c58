"""student-train and baseline-train: a network learns from labels and, where the loss asks for it, from a
teacher's answers.
"""

from __future__ import annotations

from typing import Any

from kdx.runtime import Runtime
from kdx.stages.learn import learn
from kdx.store import Work


def run(work: Work, runtime: Runtime, **inputs: Any) -> None:
    """inputs and files: those of kdx.stages.learn.learn."""
    learn(work, runtime, **inputs)
