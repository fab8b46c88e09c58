"""What a teacher attains that acts: its stored answers do not tell, so it is measured as it is asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from kdx.core.episodes import Acts
from kdx.core.task import Task
from kdx.core.trees import moved
from kdx.pipeline.stages.arrays import open_split
from kdx.pipeline.stages.gate import BY_ROW
from kdx.store.artifact import Artifact
from kdx.store.work import Work
from kdx.training.predict import Condensing, predict
from kdx.training.runtime import Runtime


def acted_on_validation(
    work: Work, networks: Sequence[nn.Module], data: Artifact, task: Task, runtime: Runtime
) -> float | None:
    """The metric that counts on validation of one teacher that acts, and `Task.by_row` in a file for the
    gate; None, and no file, of others and without validation."""
    rows = open_split(data, "validation", runtime)
    if rows is None or len(networks) != 1 or not isinstance(networks[0], Acts):
        return None
    kept = Condensing(task)
    answers = predict(networks[0], rows, runtime, batch=kept.batch, kept=kept)
    truth = moved(rows.known, "cpu")
    np.save(work.path / BY_ROW["last"], task.by_row(answers, truth).numpy())
    return float(task.metrics(answers, truth)[task.primary])
