"""No answers of a teacher."""

from __future__ import annotations

from collections.abc import Iterator

from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Recipe, Request
from kdx.pipeline.recipes.steps import beginning, student_alone, taught_by, train_controls
from kdx.pipeline.stages import TRAIN
from kdx.store.declared import declared
from kdx.store.resolve import from_own_package
from kdx.store.store import Store


class Supervised(Recipe):
    """No answers of a teacher: the student learns from labels, or from its own answers. The teacher is
    trained all the same, to be compared with.
    """

    teacher = False
    takes_given = True

    def errors(self, asked: Request) -> Iterator[str]:
        yield from super().errors(asked)
        loss, named = asked.experiment.loss, asked.config["choices"].get("loss")
        if loss and not from_own_package(loss.target) and declared(loss.target, "reads", ("answers",)):
            yield (
                f"recipe=supervised asks no teacher, and loss={named} learns from its answers: choose "
                "loss=supervised, say, or leave recipe= out"
            )

    def run(self, store: Store, experiment: Experiment) -> None:
        data, teachers, inputs = taught_by(store, experiment)
        student_alone(store, experiment, inputs, None)
        begins = beginning(experiment, teachers) if experiment.init else {}
        store.run(TRAIN, name="student-train", **inputs, **begins, loss=experiment.loss)
        train_controls(store, experiment, inputs)
