"""What the teacher and the controls answer to the rows that `evaluate` measures: a run asks for it here, as
runs whose students differ have these networks in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdx.core.roles import predict_stage
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.scores import answers_alike, answers_beside, predicted_bytes, rows_measured
from kdx.pipeline.stages import PREDICT
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.stage import subseed
from kdx.store.store import Store

KEPT_BYTES = 64 << 20
"""Of one network's answers, at most: of one that would leave more none are kept, and `evaluate` asks it."""
_TEACHERS = ("teacher", "teacher_before")


def predictions(
    store: Store,
    experiment: Experiment,
    data: Artifact,
    models: Mapping[str, Artifact | Sequence[Artifact]],
    shifts: Sequence[tuple[str, Component]],
) -> dict[str, Artifact]:
    """role -> the artifact of its answers, of those that are kept. models, shifts: as `evaluate` has them."""
    about, found = data.json("data.json"), {}
    seen = {"shifts": shifts, "seed": subseed(experiment.seed, "shift")} if shifts else {}
    roles = (*_TEACHERS, *(() if answers_beside(about) else experiment.controls))
    for role in roles if answers_alike(about) else ():
        made = models.get(role)
        if made is None or predicted_bytes(about, made) > KEPT_BYTES:
            continue
        together = role == "teacher" and not isinstance(made, Artifact) and experiment.aggregate
        found[role] = store.run(
            PREDICT,
            name=predict_stage(role),
            data=data,
            model=made,
            rows=rows_measured(about["counts"], splits_learned(experiment, role)),
            **seen,
            **({"aggregate": experiment.aggregate} if together else {}),
        )
    return found


def splits_learned(experiment: Experiment, role: str) -> list[str]:
    """Splits that the network of a role learned from beside the labelled rows, so that they tell nothing of
    it."""
    control = experiment.controls.get(role)
    return ["validation"] if control and control.also == "validation" else []
