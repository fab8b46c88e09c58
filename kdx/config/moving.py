"""Teachers that move while the student learns (`teacher.update`), from plain values. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kdx.core import checks
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Recipe
from kdx.store.component import Component
from kdx.store.declared import declared

MOVING_KEYS = ("update", "decay", "begin", "rate", "beta", "delay", "ready")
"""Keys of `teacher` that say how it moves, and are none of its network."""
UPDATES = ("frozen", "ema", "slow", "alternate")
_OF = {"decay": ("ema",), "begin": ("ema",), "rate": ("slow", "alternate"), "beta": ("slow", "alternate")}
"""Those that some updates alone have."""


def without_moving(keys: Mapping[str, Any]) -> dict[str, Any]:
    """A teacher's node without them."""
    return {key: value for key, value in keys.items() if key not in MOVING_KEYS}


def read_moving(config: Mapping[str, Any]) -> Component | None:
    """How the teacher moves; None: it stands."""
    node = config["teacher"]
    update = checks.choice("teacher.update", node.get("update", "frozen"), UPDATES)
    if update == "frozen":
        return None
    return Component({"_target_": "kdx.methods.moving.Moving", **{key: node[key] for key in MOVING_KEYS}})


def wrong_moving(experiment: Experiment, config: Mapping[str, Any], recipe: Recipe | None) -> Iterator[str]:
    """Why a teacher that moves does not go with what is asked for. recipe: None where it was refused."""
    if experiment.moving is None or experiment.loss is None:
        return
    asked = f"teacher.update={experiment.moving.spec['update']}"
    remedy = "set teacher.update=frozen, or leave it out"
    if experiment.given:
        yield f"{asked} moves a network, and teacher=answers has none: {remedy}"
    elif len(experiment.teachers) > 1:
        yield f"{asked} moves one network, and {len(experiment.teachers)} teach here: {remedy}"
    elif any(teacher.fitted for teacher in experiment.teachers):
        yield f"{asked} moves a network by steps, and this teacher makes none: {remedy}"
    elif any(teacher.class_map for teacher in experiment.teachers):
        yield f"{asked} moves a network of the data's classes, and teacher.classes_map is of others: {remedy}"
    if not declared(experiment.loss.target, "reads", ("answers",)):
        yield f"{asked}, and loss={config['choices'].get('loss')} learns from no teacher: {remedy}"
    elif recipe and (recipe.buys or recipe.rolling):
        chosen = config["choices"].get("recipe")
        yield f"{asked}, and recipe={chosen} stores the answers of a teacher that stands: {remedy}"
    pseudo = experiment.pseudo_label
    if pseudo and pseudo["mode"] == "stored":
        yield (
            f"{asked} changes the teacher's answers from step to step, and pseudo_label.mode=stored stores "
            "them beforehand: set pseudo_label.mode=live, or leave it out"
        )
    if pseudo and pseudo["passes"]:
        yield f"{asked}, and pseudo_label.passes are made once, of a teacher that stands: {remedy}"
    if pseudo and pseudo["format"] != "dense":
        yield f"{asked}, and pseudo_label.format={pseudo['format']} stores answers beforehand: leave one out"
    if experiment.select:
        yield f"{asked}, and select= chooses by the answers of a teacher that stands: leave one of them out"


def idle_moving(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, why it can never act)"""
    update = config["teacher"].get("update", "frozen")
    for key in MOVING_KEYS[1:]:
        if update == "frozen":
            yield f"teacher.{key}", "the teacher stands (teacher.update=frozen): set teacher.update=ema, say"
        elif update not in _OF.get(key, (update,)):
            of = " or ".join(_OF[key])
            yield f"teacher.{key}", f"it is of teacher.update={of}, and this is {update}: leave it out"
