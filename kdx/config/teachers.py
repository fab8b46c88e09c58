"""The teacher of a run, or the members of an ensemble, from plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kdx.config.class_map_files import read_class_names
from kdx.config.given import by_content
from kdx.config.moving import without_moving
from kdx.config.named_options import read_network
from kdx.config.nodes import checkpoint_of, read_training
from kdx.config.through import read_through
from kdx.core import checks
from kdx.core.class_names import UNMAPPED_CLASSES, ClassMap, read_class_map
from kdx.core.errors import UserError
from kdx.pipeline.recipes.experiment import Checkpoint, TeacherSetup
from kdx.store.component import Component
from kdx.store.declared import declared


def read_teachers(
    config: Mapping[str, Any], training: Component | None, read: Callable[..., Any]
) -> list[TeacherSetup]:
    """The teacher, or the members of an ensemble. training: as `teacher_pretrain` has it, None where it was
    refused. read: calls a function, and gives None where it refuses; then what it gave is no part of a run.
    """
    members = config.get("members") or {}
    if not members:
        node = {key: value for key, value in config["teacher"].items() if key != "members"}
        return [_teacher("teacher", config["choices"]["teacher"], node, config, training, read)]
    found: list[TeacherSetup] = []
    for number, keys in members.items():
        own = {key: value for key, value in keys.items() if key not in ("option", "teacher_pretrain")}
        node, settings = f"members.{number}", keys["teacher_pretrain"]
        stage, shared = f"{node}.teacher_pretrain", settings == config["teacher_pretrain"]
        trained = training if shared else read(read_training, stage, {stage: settings})
        asked = {**config, "teacher_pretrain": settings}
        made = _teacher(node, keys["option"], own, asked, trained, read)
        alike = [place for place, other in enumerate(found, 1) if _described_alike(made, other)]
        if alike and trained is not None and made.training is None and not made.fitted:
            checks.refuse(
                f"the members {alike[0]} and {number} would be one network: none of them is "
                "trained, so no seed sets them apart; give them other weights "
                f"({node}.checkpoint=PATH), train them on (teacher_pretrain.epochs=5, say), or name it once"
            )
        found.append(replace(made, copy=sum(other.name == made.name for other in found)))
    return found


def _teacher(
    node: str,
    option: str,
    keys: Mapping[str, Any],
    config: Mapping[str, Any],
    training: Component | None,
    read: Callable[..., Any],
) -> TeacherSetup:
    """keys: of the network, with its checkpoint."""
    own, fitted = without_moving(keys), is_fitted(keys)
    trained = not fitted and not taken_as_it_is(keys, config["teacher_pretrain"])
    given, unmapped = own.pop("classes_map", None), own.pop("classes_unmapped", "drop")
    checkpoint = read(checkpoint_of, node, own)
    through = read(read_through, node, own.pop("through", None)) or []
    read(_check_head_first, node, keys, config, trained)
    if through and not trained:
        checks.refuse(
            f"{node}.through lists data sets that a teacher learns from by steps before the labelled part, "
            "and this one makes no step: set teacher_pretrain.epochs=5, say, or leave it out"
        )
    return TeacherSetup(
        name=option,
        checkpoint=checkpoint,
        model=read(_network, node, own),
        training=training if trained else None,
        fitted=fitted,
        class_map=read(_class_map, node, given, unmapped, checkpoint, trained),
        through=through,
    )


def _check_head_first(node: str, keys: Mapping[str, Any], config: Mapping[str, Any], trained: bool) -> None:
    """Of fresh weights the last layer would learn from what has learned nothing."""
    asked = config["teacher_pretrain"].get("head_first", 0)
    if trained and asked and not (begins_with_weights(keys) or keys.get("through")):
        raise UserError(
            "teacher_pretrain.head_first lets the last layer of a network that comes with weights learn "
            f"first, and this one's are fresh: set {node}.checkpoint=PATH or {node}.weights=DEFAULT, or "
            "leave it out"
        )


def begins_with_weights(keys: Mapping[str, Any]) -> bool:
    """keys: of a network's node."""
    return keys.get("checkpoint") is not None or keys.get("weights") is not None or _is_ready(keys)


def _class_map(
    node: str, given: Any, unmapped: Any, checkpoint: Checkpoint | None, trained: bool
) -> ClassMap | None:
    """given: a file of theirs: ours, None: the teacher learned the classes of the data."""
    checks.choice(f"{node}.classes_unmapped", unmapped, UNMAPPED_CLASSES)
    if given is None:
        if unmapped != "drop":
            raise UserError(
                f"{node}.classes_unmapped is of {node}.classes_map=FILE: set that, or leave it out"
            )
        return None
    if checkpoint is None or trained:
        raise UserError(
            f"{node}.classes_map is for a teacher that is taken as it is from {node}.checkpoint=PATH: one "
            "that is trained here learns the classes of the data; leave it out"
        )
    names = read_class_names(f"{node}.classes_map", given)
    return read_class_map(node, names, unmapped, checkpoint.file.paths[0])


def _network(node: str, keys: Mapping[str, Any]) -> Component:
    """A network; of one that lies in a file, its content counts, and not where that lies."""
    made = read_network(node, keys)
    return by_content(node, made, "model.onnx") if declared(made.target, "finished", False) else made


def is_fitted(keys: Mapping[str, Any]) -> bool:
    """Whether a network is fitted at once, and not trained by steps; by its class's file, without torch.
    keys: of its node.
    """
    target = keys.get("_target_")
    try:
        return isinstance(target, str) and bool(declared(target, "fitted_at_once", False))
    except UserError:
        return False  # reported where it is built


def taken_as_it_is(keys: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether no step of a network is made, as its weights are there. settings: its teacher_pretrain."""
    return begins_with_weights(keys) and all(settings[unit] is None for unit in ("epochs", "steps"))


def _is_ready(keys: Mapping[str, Any]) -> bool:
    """Whether a network says of itself that it comes with its weights."""
    target = keys.get("_target_")
    try:
        return isinstance(target, str) and bool(declared(target, "ready", False))
    except UserError:
        return False  # reported where it is built


def _described_alike(one: TeacherSetup, other: TeacherSetup) -> bool:
    return one.model == other.model and one.training == other.training and _weights(one) == _weights(other)


def _weights(teacher: TeacherSetup) -> tuple[Any, ...]:
    given = teacher.checkpoint
    return (given.file.paths[0].resolve(), given.key) if given else ()
