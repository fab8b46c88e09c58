"""Answers that come in a file in place of a teacher's (`teacher=answers`): what plain values tell of them
before work. No torch: what the file itself tells is looked at by kdx.config.kinds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdx.config.described import component
from kdx.config.moving import without_moving
from kdx.core import checks
from kdx.core.errors import UserError
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Recipe
from kdx.store.component import Component, terms_of
from kdx.store.declared import declared
from kdx.store.source import Source


def is_given(keys: Mapping[str, Any]) -> bool:
    """Whether a teacher's node stands for answers in a file."""
    return _declares(keys, "given_answers")


def is_finished(keys: Mapping[str, Any]) -> bool:
    """Whether a teacher's node stands for a finished network in a file."""
    return _declares(keys, "finished")


def names_given(config: Mapping[str, Any]) -> bool:
    """Whether the teacher, or a member of an ensemble, is such a node."""
    return any(is_given(keys) for keys in (config["teacher"], *(config.get("members") or {}).values()))


def given_file(config: Mapping[str, Any]) -> Component | None:
    """The file of answers, known by its content; None where the teacher is a network."""
    members = config.get("members") or {}
    if any(is_given(keys) for keys in members.values()):
        raise UserError(
            "answers in a file stand alone, and are no member of an ensemble: average them yourself, and "
            "name teacher=answers teacher.file=PATH"
        )
    node = {key: value for key, value in without_moving(config["teacher"]).items() if key != "members"}
    if members or not is_given(node):
        return None
    node = {k: v for k, v in node.items() if k != "classes_unmapped" or v != "drop"}
    for key in ("checkpoint", "key", "through", "reads", "classes_map", "classes_unmapped"):
        if node.pop(key, None) is not None:
            raise UserError(
                f"teacher.{key} is for the weights of a network, and teacher=answers has none: leave it out"
            )
    return by_content("teacher", component("teacher", node), "labels.csv")


def by_content(node: str, described: Component, example: str) -> Component:
    """The same, with the files that its keys name known by their content. Raises UserError where one is not
    there."""
    sources = {}
    for key in declared(described.target, "paths", ()):
        path = described.spec.get(key)
        if path is None:
            raise UserError(f"{node}.{key} must name a file: {node}.{key}={example}, say")
        if not isinstance(path, str) or not path:
            raise UserError(f"{node}.{key} must be the path of a file; given: {checks.shown(path)}")
        found = Path(os.path.expanduser(path))
        if not found.is_file():
            what = "is no ordinary file" if os.path.exists(found) else "does not exist"
            raise UserError(f"{node}.{key} '{path}' {what}: name a file, such as {node}.{key}={example}")
        sources[key] = Source(found)
    return Component(described.spec, sources)


def wrong_given(experiment: Experiment, config: Mapping[str, Any], recipe: Recipe | None) -> Iterator[str]:
    """Why answers in a file do not go with what is asked for. recipe: None where it was refused."""
    asked, training = experiment.pseudo_label, experiment.student_train
    if asked and asked["view"] == "same" and training and training.spec["augment"]:
        yield (
            "pseudo_label.view=same needs answers to every augmented view, and a file holds one to each "
            "clean row: leave it out, the student sees augmented views all the same"
        )
    if asked and asked["mode"] == "live":
        yield "pseudo_label.mode=live asks a network in each step, and teacher=answers has none: leave it out"
    if asked and asked["format"] != "dense":
        yield (
            f"pseudo_label.format={asked['format']} keeps a part of what a network answers, and a file is "
            "taken as it is: leave it out"
        )
    if asked and asked["passes"]:
        yield (
            "pseudo_label.passes asks a network several times, with dropout, and teacher=answers has none: "
            f"leave it out, or choose another loss than {config['choices'].get('loss')}"
        )
    if asked and asked["temperature"] not in ("auto", 1):
        yield (
            "pseudo_label.temperature changes what a network answers, and teacher=answers has none: divide "
            "the logits in the file yourself, or leave it out"
        )
    if isinstance(experiment.rounds, int) and experiment.rounds > 1:
        yield (
            f"rounds={experiment.rounds} ask the student of each round for the answers of the next, and a "
            "file holds those of one: set rounds=1, and begin again with teacher=NAME "
            "teacher.checkpoint=PATH of that student"
        )
    elif recipe and not recipe.takes_given:
        yield (
            f"recipe={config['choices'].get('recipe')} asks a teacher more than once, and teacher=answers "
            "holds answers to one question: leave recipe=, assistants= and budget= out"
        )
    for name, term in (terms_of(experiment.loss.spec) if experiment.loss else {}).items():
        if _declares(term, "reads"):
            yield (
                f"loss.features={name} reads hidden layers of the teacher, and answers in a file have none: "
                "set loss.features=none, or choose another loss"
            )


def _declares(keys: Mapping[str, Any], name: str) -> bool:
    target = keys.get("_target_")
    try:
        return isinstance(target, str) and bool(declared(target, name, False))
    except UserError:
        return False  # reported where it is built
