"""Rows that the teacher goes on with, in place of its answers (`pseudo_label.format=text`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdx.core.rollouts import Rolling
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.stages import ROLLOUT
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.declared import declared
from kdx.store.stage import subseed
from kdx.store.store import Store
from kdx.training.length import total_steps, used

TEXT = "text"


def written_by(pseudo_label: Mapping[str, Any]) -> Rolling | None:
    """How the teacher goes on with rows; None: it answers. Raises UserError where a setting is wrong."""
    if pseudo_label["format"] != TEXT:
        return None
    return Rolling(pseudo_label["prompt"], pseudo_label["drawn_at"], "pseudo_label", "drawn_at")


def gives_answers(experiment: Experiment) -> bool:
    """Whether all teachers answer rows, as one that reads them in a form of its own does not
    (kdx.core.scorer)."""
    known = [teacher.model for teacher in experiment.teachers if teacher.model]
    return all(declared(model.target, "answers", True) for model in known)


def lesson_of_text(
    store: Store,
    experiment: Experiment,
    inputs: Mapping[str, Any],
    teachers: Sequence[Artifact],
    how: Rolling,
) -> dict[str, Any]:
    """What a student learns from: all labelled rows that its training shows, gone on with by the teacher, and
    the labels' loss on what they tell themselves (sequence-level distillation, Kim and Rush 2016)."""
    data, spec = inputs["data"], experiment.student_train.spec
    counts = used(data.json("data.json")["counts"], spec["rows"])
    steps = total_steps(spec, counts["labelled"] + counts["unlabelled"], "student_train")
    written = store.run(
        ROLLOUT,
        data=data,
        network=teachers[0],
        training=inputs["training"],
        splits=["labelled"],
        steps=[0, steps],
        share=1.0,
        rolling=how.document(),
        seeds={"views": inputs["views_seed"], "rollout": subseed(experiment.seed, "written")},
        truth="own",
    )
    return {"data": written, "loss": experiment.teacher_loss}


def wrong_text(experiment: Experiment, takes: bool) -> Iterator[str]:
    """Why rows of the teacher's do not go with what is asked for. takes: whether the recipe has a place for
    them."""
    if not gives_answers(experiment):
        yield from _wrong_writer(experiment)
    if not experiment.pseudo_label or experiment.pseudo_label["format"] != TEXT:
        return
    said = "pseudo_label.format=text lets one teacher go on with rows, of which a student learns once"
    if not takes or experiment.rounds != 1 or experiment.select or experiment.given:
        yield f"{said}: leave recipe=, rounds=, select= and teacher=answers out"
    elif len(experiment.teachers) > 1:
        yield f"{said}: choose one of the {len(experiment.teachers)} teachers"
    elif experiment.loss and not _labels_alone(experiment.loss):
        yield (
            "pseudo_label.format=text keeps no probabilities of the teacher's, so that the labels' loss on "
            "its rows is all there is: set loss.alpha=0, of a loss that has such a weight, as kd has"
        )


def _wrong_writer(experiment: Experiment) -> Iterator[str]:
    """Of a teacher that gives no answers."""
    name = experiment.teacher_name
    if not experiment.pseudo_label or experiment.pseudo_label["format"] != TEXT:
        yield (
            f"teacher={name} reads a vocabulary of its own and gives no answers that a student could be held "
            "against: let it write, with pseudo_label.format=text and loss.alpha=0"
        )
    if any(teacher.training is not None for teacher in experiment.teachers):
        yield (
            f"teacher={name} reads a vocabulary of its own and is taken as it is: leave "
            "teacher_pretrain.steps and epochs out"
        )
    if experiment.init and declared(experiment.init.target, "of", "teacher") != "round":
        yield (
            f"teacher={name} reads a vocabulary of its own, and no weights go to the student: leave init= out"
        )


def _labels_alone(loss: Component) -> bool:
    """Whether it is the labels' loss, as its teacher's term has no weight."""
    return loss.spec.get("alpha") == 0 and bool(declared(loss.target, "reads_kept", False))
