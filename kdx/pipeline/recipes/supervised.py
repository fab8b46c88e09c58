"""No answers of a teacher."""

from __future__ import annotations

from kdx.pipeline.recipes.experiment import Plan, needs
from kdx.pipeline.recipes.steps import alone, compare, student, teach
from kdx.pipeline.stages import TRAIN
from kdx.store.store import Store


@needs(teacher=False)
def supervised(store: Store, plan: Plan) -> None:
    """No answers of a teacher: the student learns from labels, or from its own answers. The teacher is
    trained all the same, to be compared with.
    """
    data, _ = teach(store, plan)
    pupil = student(store, data, plan)
    alone(store, plan, pupil, None)
    store.run(TRAIN, name="student-train", **pupil, loss=plan.loss)
    compare(store, plan, pupil)
