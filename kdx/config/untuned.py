"""Students of the teacher before its fine-tuning (`untuned_student`, `probed_student`), from plain values. No
torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kdx.core import checks
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Recipe
from kdx.pipeline.recipes.teachers import has_new_head, is_tuned
from kdx.pipeline.recipes.untuned import OF_UNTUNED, PROBED, UNTUNED
from kdx.store.declared import declared


def read_untuned(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The roles of those that are asked for."""
    return tuple(role for role in OF_UNTUNED if checks.flag(role, config.get(role, False)))


def wrong_untuned(experiment: Experiment, config: Mapping[str, Any], recipe: Recipe | None) -> Iterator[str]:
    """Why there can be no such student, one sentence for each that is asked for. recipe: None where it was
    refused."""
    for role in experiment.untuned:
        if why := _wrong(experiment, config, recipe, role):
            yield f"{role}=true {why}"


def could_be_taught(
    experiment: Experiment, config: Mapping[str, Any], recipe: Recipe, new_head: bool
) -> list[str]:
    """The roles that the same run could have been asked for. new_head: whether the last layer of the teacher
    before was a new one."""
    return [
        role
        for role in OF_UNTUNED
        if not _wrong(experiment, config, recipe, role) and not (new_head and role == UNTUNED)
    ]


def _wrong(experiment: Experiment, config: Mapping[str, Any], recipe: Recipe | None, role: str) -> str | None:
    choices, leave = config["choices"], "leave it out"
    of = "distils the student from the teacher before its fine-tuning too"
    loss, pseudo = experiment.loss, experiment.pseudo_label
    if recipe and not recipe.untuned:
        return f"{of}, which recipe={choices.get('recipe')} does not: {leave}"
    if experiment.given:
        return f"{of}, and the teacher's answers lie in a file (teacher=answers): {leave}"
    if loss and not declared(loss.target, "reads", ("answers",)):
        return f"{of}, and loss={choices.get('loss')} learns from no teacher: {leave}"
    if pseudo and pseudo["format"] == "text":
        return f"{of}, and pseudo_label.format=text asks for no answers: {leave}"
    if experiment.moving:
        return f"{of}, and this one moves on (teacher.update): set teacher.update=frozen, or {leave}"
    if experiment.rounds != 1:
        return f"{of}, in one round, and there are rounds={experiment.rounds}: set rounds=1, or {leave}"
    if len(experiment.teachers) > 1:
        return f"is of one teacher, and {len(experiment.teachers)} answer together here: name one, or {leave}"
    return _wrong_teacher(experiment, role)


def _wrong_teacher(experiment: Experiment, role: str) -> str | None:
    for teacher in experiment.teachers:
        if not is_tuned(teacher):
            return (
                "compares with the teacher before its fine-tuning, and this one is not fine-tuned: set "
                "teacher.checkpoint=PATH with teacher_pretrain.epochs=5, say, or teacher.through=[NAME], or "
                "leave it out"
            )
        if role == UNTUNED and has_new_head(teacher):
            return _new_head("teacher.weights")
        spec = teacher.training.spec if teacher.training else {}
        first = spec.get("head_first")
        if role == PROBED and isinstance(first, float) and first == 1.0:
            return (
                "lets the teacher's last layer alone learn, which teacher_pretrain.head_first=1.0 does "
                "already: leave one of them out"
            )
    return None


def _new_head(key: str) -> str:
    return (
        f"asks the teacher before its fine-tuning, and with {key} of other classes its last layer is a new "
        "one that knows nothing: set probed_student=true in its place, where that layer alone has learned"
    )


def check_head(experiment: Experiment, key: str) -> None:
    """Raises UserError where a teacher is asked for answers before its new last layer has learned. key: what
    it begins with."""
    if UNTUNED in experiment.untuned:
        checks.refuse(f"{UNTUNED}=true {_new_head(key)}")
