"""The default journey: a teacher is trained, answers, and a student learns from its answers."""

from __future__ import annotations

from typing import Any

from kdx.core.rollouts import Rolling
from kdx.pipeline.recipes.asking import ToAnswer, ask_teacher, how_to_ask
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Recipe
from kdx.pipeline.recipes.steps import (
    beginning,
    best_round,
    look_at_proxy,
    round_name,
    rows_to_learn,
    student_alone,
    taught_by,
    train_controls,
    waited,
)
from kdx.pipeline.recipes.untuned import train_of_untuned
from kdx.pipeline.recipes.written import gives_answers, lesson_of_text, written_by
from kdx.pipeline.scores import metric_of
from kdx.pipeline.stages import TRAIN
from kdx.store.artifact import Artifact
from kdx.store.store import Store


class Distil(Recipe):
    """The default journey: teacher-pretrain, pseudo-label, baseline-train, gate, student-train. In further
    rounds the student is the teacher; the best one counts."""

    takes_given = True
    takes_text = True
    untuned = True

    def run(self, store: Store, experiment: Experiment) -> None:
        data, first, inputs = taught_by(store, experiment, students=experiment.rounds)
        teachers, metric, asking = first, metric_of(data), how_to_ask(data, experiment)
        if how := written_by(experiment.pseudo_label):
            _learn_text(store, experiment, inputs, teachers, how)
            return
        students: list[Artifact] = []
        lessons: list[dict[str, Any]] = []
        for number in range(1, experiment.rounds + 1):
            name = round_name("pseudo-label", number, experiment)
            answers = asking.answers(store, data, teachers, name)
            if number == 1:
                look_at_proxy(store, experiment, data, first, answers)
                student_alone(store, experiment, inputs, answers)
            lesson = {
                **inputs,
                **self.of_round(experiment, number),
                **asking.lesson(answers, teachers),
                **rows_to_learn(store, experiment, data, answers, number),
                **beginning(experiment, first, teachers[0] if number > 1 else None),
            }
            students.append(store.run(TRAIN, name=round_name("student-train", number, experiment), **lesson))
            teachers = students[-1:]
            lessons.append(lesson)
            if waited(students, metric) >= (experiment.round_patience or experiment.rounds):
                break
        if experiment.rounds > 1:  # the best round under the student's own name: it is in the store by now
            store.run(TRAIN, name="student-train", **lessons[best_round(students, metric)])
        train_controls(store, experiment, inputs)
        train_of_untuned(store, experiment, asking, inputs)

    def of_round(self, experiment: Experiment, number: int) -> dict[str, Any]:
        """The inputs of a round's training that differ from those of the first."""
        return {}


def _learn_text(
    store: Store, experiment: Experiment, inputs: dict[str, Any], teachers: list[Artifact], how: Rolling
) -> None:
    """Validation alone is answered, for the gate; a teacher that gives no answers is measured already."""
    data = inputs["data"]
    if gives_answers(experiment):
        asked = ToAnswer(pool=False)
        answers = ask_teacher(store, data, teachers, experiment, {}, name="pseudo-label", which=asked)
    else:
        answers = teachers[0]
    student_alone(store, experiment, inputs, answers)
    lesson = lesson_of_text(store, experiment, inputs, teachers, how)
    store.run(TRAIN, name="student-train", **{**inputs, **lesson}, **beginning(experiment, teachers))
    train_controls(store, experiment, inputs)
