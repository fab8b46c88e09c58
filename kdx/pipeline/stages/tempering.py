"""The temperature of the teacher's answers, given or fitted on validation."""

from __future__ import annotations

import torch

from kdx.core.task import Task
from kdx.core.trees import joined, moved
from kdx.core.types import Teacher
from kdx.data.streams import sequential
from kdx.methods.temperature import COLDEST, HOTTEST, Tempered, fit_temperature, mean_loss
from kdx.pipeline.stages.arrays import need_split
from kdx.pipeline.stages.spread import BATCH
from kdx.store.artifact import Artifact
from kdx.store.work import Work
from kdx.training.runtime import Runtime

FITTED = "fitted"
_AT_THE_END = 1.001


def temper(
    work: Work,
    runtime: Runtime,
    data: Artifact,
    task: Task,
    teacher: Teacher,
    asked: float | str,
    precision: str,
) -> tuple[Teacher, float]:
    """(the teacher with its temperature, which that is). asked: a number, or "fitted": that with the least
    loss of its answers to the clean validation rows.
    """
    if asked != FITTED:
        temperature = float(asked)
        work.note(
            f"the teacher's answers have the temperature {temperature:g}, as pseudo_label.temperature says"
        )
        return Tempered(teacher, temperature, task), temperature
    rows = need_split(data, "validation", runtime)
    device, found = torch.device(runtime.device), []
    with torch.inference_mode(), runtime.autocast(precision):
        for batch in sequential(rows, batch=BATCH, views=None, view=0, task=task, device=device):
            found.append(moved(teacher(batch), "cpu"))
    answers, truth = joined(found), moved(rows.known, "cpu")
    temperature = fit_temperature(task, answers, truth)
    before, after = (mean_loss(task, answers, truth, t) for t in (1.0, temperature))
    work.note(
        f"the temperature of the teacher's answers, fitted on {len(rows):,} validation rows: "
        f"{temperature:.3f} (log loss there {before:.3f} as they are, {after:.3f} so)"
    )
    if temperature < COLDEST * _AT_THE_END or temperature > HOTTEST / _AT_THE_END:
        work.note(
            f"the temperature is at the end of what is tried, {COLDEST:g} to {HOTTEST:g}: the validation "
            "rows do not tell how sure the teacher may be, as where it is right of all of them",
            "warning",
        )
    return Tempered(teacher, temperature, task), temperature
