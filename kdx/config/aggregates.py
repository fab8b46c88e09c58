"""Whether what makes one answer of those of several teachers (`aggregate=`) goes with them and the task."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from kdx.config.trying import trying
from kdx.core.aggregate import Aggregate, Combined
from kdx.core.errors import UserError, WrongPart
from kdx.core.task import Categorical, Task
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.stages.aggregating import build_aggregate

_TRIED = 3
"""Made-up rows."""


def check_aggregate(
    experiment: Experiment, option: str, task: Task | None, rows: Mapping[str, int], errors: list[str]
) -> None:
    """option: as it was chosen. task: None where it is not known. rows: of each split, as far as they are
    known."""
    if len(experiment.teachers) < 2:
        return  # that it makes one of one is said by kdx.config.nodes.wrong_aggregate
    if not experiment.aggregate:
        with trying(errors):
            if task is not None:
                task.mean([task.made_up(1) for _ in experiment.teachers])
        return
    with trying(errors, own=experiment.aggregate.target):
        if task is None:
            return
        made, classes = build_aggregate(experiment.aggregate.spec, task)
        if made.reads_validation and rows and not rows.get("validation"):
            raise UserError(
                f"aggregate={option} weighs the teachers by validation, and this run has none: set "
                "dataset.validation=0.1, say, or choose another, such as confidence"
            )
        _try(made, len(experiment.teachers), classes)


def _try(made: Aggregate, members: int, task: Categorical) -> None:
    """Of the user's own one may give anything."""
    drawn = torch.Generator().manual_seed(0)
    several = [task.made_up(_TRIED, drawn) for _ in range(members)]
    probs, truth = torch.stack([task.probs(one) for one in several]), torch.arange(_TRIED) % len(task.classes)
    weights = made.weights(probs.double(), truth) if made.reads_validation else None
    found = task.probs(Combined(made, task, weights)(several))
    if found.shape != probs.shape[1:] or not bool(found.isfinite().all()):
        raise WrongPart(
            f"{type(made).__name__}.probs must give probabilities of {len(task.classes)} classes for each "
            f"of {_TRIED} rows, {tuple(probs.shape[1:])}; given: {tuple(found.shape)}"
        )
