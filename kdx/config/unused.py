"""Settings that could never act in the run that they are typed for, such as a patience where nothing
validates: reported before any work.

Only what was typed is looked at: defaults, and what a chosen option brings along, may lie idle. Plain values
in, sentences out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kdx.config.given import is_finished, is_given
from kdx.config.moving import idle_moving
from kdx.config.pools import read_made_up, read_pool
from kdx.config.row_makers import idle_keys
from kdx.config.teachers import is_fitted, taken_as_it_is
from kdx.core.checks import shown
from kdx.pipeline.recipes.checks import idle_gate
from kdx.pipeline.recipes.recipe import Recipe, build_recipe
from kdx.store.component import Component
from kdx.store.declared import declared
from kdx.training.length import length

_TEACHER = "teacher_pretrain"
VALIDATIONS = 20
"""How often a training validates, unless set otherwise: kdx.pipeline.stages.watch.VALIDATIONS, which a test
holds this to.
"""


@dataclass
class Learned:
    """What checks before work learn of a run on the way. rows: of each split, as far as they are known. idle:
    key -> why, of settings that what was built from them says are without effect. room: what there is to say
    where the disk has too little room.
    """

    rows: dict[str, int] = field(default_factory=dict)
    idle: dict[str, str] = field(default_factory=dict)
    room: list[str] = field(default_factory=list)


def idle(config: Mapping[str, Any], typed: Collection[str], learned: Learned | None = None) -> dict[str, str]:
    """key -> why it cannot act, of the dotted keys that were typed.

    config: plain values that passed all other checks. learned: without, or without rows, the sizes count that
    are asked for.
    """
    learned, recipe = learned or Learned(), build_recipe(Component(config["recipe"]))
    rows = learned.rows or None
    found = [
        *_validation(config, rows),
        *recipe.idle(config),
        *_pool(config, rows),
        *_unread(config, recipe),
        *_row_makers(config),
        *_format(config),
        *_precision(config),
        *idle_moving(config),
        *_training("student_train", config["student_train"], _unseen(config, rows)),
        *_teachers(config, _unseen(config, rows)),
        *learned.idle.items(),
    ]
    return {
        key: f"{key}={_value(config, key)} can never act: {why}"
        for node, why in found
        for key in typed
        if f"{key}.".startswith(f"{node}.") and not _asks_for_nothing(config, key)
    }


def _asks_for_nothing(config: Mapping[str, Any], key: str) -> bool:
    """As patience=null does, and steps=null of a teacher that is taken as it is."""
    return key.startswith("teacher_pretrain.") and _at(config, key) is None


def _value(config: Mapping[str, Any], key: str) -> str:
    """Of a group the option that was chosen."""
    return shown(config["choices"].get(key) or _at(config, key), bare=True)


def _at(config: Mapping[str, Any], key: str) -> Any:
    node: Any = config
    for name in key.split("."):
        node = node[name]
    return node


def _unseen(config: Mapping[str, Any], rows: Mapping[str, int] | None) -> str | None:
    """Why nothing is validated; None where it is."""
    if rows.get("validation") if rows else config["dataset"]["validation"] is not None:
        return None
    return (
        "it goes by the validation split, and this run has none: set "
        "dataset.validation=0.1, say, or leave it out"
    )


def _teachers(config: Mapping[str, Any], unseen: str | None) -> Iterator[tuple[str, str]]:
    """Of the teacher's training; of several what lies idle in one of them under its number, and in all of
    them under what they share.
    """
    members = config["members"]
    for number, keys in members.items():
        node = f"members.{number}.{_TEACHER}"
        yield from _of_teacher(node, keys, keys[_TEACHER], keys["option"], unseen)
    alone = {"1": {**config["teacher"], "option": config["choices"]["teacher"], _TEACHER: config[_TEACHER]}}
    each = [
        dict(_of_teacher(_TEACHER, keys, keys[_TEACHER], keys["option"], unseen))
        for keys in (members or alone).values()
    ]
    whole = [found for found in each if _TEACHER in found]
    if len(whole) == len(each):
        yield _TEACHER, whole[0][_TEACHER]
        yield "teacher_loss", whole[0][_TEACHER]
        return
    some = [found for found in each if _TEACHER not in found]
    yield from ((key, why) for key, why in some[0].items() if all(key in found for found in some))


def _of_teacher(
    node: str, keys: Mapping[str, Any], settings: Mapping[str, Any], option: str, unseen: str | None
) -> Iterator[tuple[str, str]]:
    """All of the node where no step is made. keys: of the network. option: what it is called."""
    if is_given(keys):
        yield (
            node,
            f"the teacher's answers lie in a file (teacher={option}), and nothing is trained: leave it out",
        )
    elif is_finished(keys):
        yield node, f"the teacher {option} is a finished network, and taken as it is: leave it out"
    elif is_fitted(keys):
        yield node, f"the teacher {option} is fitted at once, and not trained by steps: leave it out"
    elif taken_as_it_is(keys, settings):
        yield (
            node,
            (
                f"the teacher {option} has its weights and is taken as it is: set {node}.epochs=5, say, to "
                "train it on, or leave it out"
            ),
        )
    else:
        yield from _training(node, settings, unseen)


def _validation(config: Mapping[str, Any], rows: Mapping[str, int] | None) -> Iterator[tuple[str, str]]:
    """What waits for a look at the validation split."""
    why = _unseen(config, rows)
    if why is None:
        return
    if config["round_patience"] is not None:
        yield "round_patience", why
    if config["headline"] == "best":
        yield "headline", why
    yield from idle_gate(config, why)


def _pool(config: Mapping[str, Any], rows: Mapping[str, int] | None) -> Iterator[tuple[str, str]]:
    if config["student_train"]["labelled_share"] is not None and rows and not rows.get("unlabelled"):
        yield (
            "student_train.labelled_share",
            (
                "this run has no pool, so a batch is all labelled: set "
                "dataset.labelled=0.1, say, or leave it out"
            ),
        )
    if config["teacher_pretrain"]["labelled_share"] is not None:
        yield (
            "teacher_pretrain.labelled_share",
            "the teacher learns from labelled examples alone: leave it out",
        )
    if config["pseudo_label"]["mode"] != "auto":
        yield (
            "pseudo_label.limit",
            (
                f"it is what mode=auto goes by, and pseudo_label.mode={config['pseudo_label']['mode']}: "
                "leave one of them out"
            ),
        )


def _unread(config: Mapping[str, Any], recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Rows of a pool that no student reads, what chooses among them, and the views and shares of what is
    read.
    """
    loss, named = config["loss"].get("_target_", ""), f"loss={config['choices']['loss']}"
    reads = {*declared(loss, "uses", ()), *declared(loss, "may_use", ())}
    why = None
    if recipe.reads_pool is False:
        why = f"recipe={config['choices']['recipe']} reads no pool: leave it out"
        reads.discard("unlabelled")
    elif "unlabelled" not in reads:
        why = f"{named} reads no pool: choose another loss, such as kd, or leave it out"
    if why and not recipe.reads_pool:
        tested = recipe.reads_pool is None and config["pool"].get("test")
        keys = ("made_up", "select") if tested else ("made_up", "select", "pool")
        yield from ((key, why) for key in keys if config[key])
    if config["pseudo_label"]["format"] == "text":
        why, reads = "pseudo_label.format=text reads no pool: leave it out", {"labelled"}
    if why and reads <= {"labelled"} and config["student_train"]["labelled_share"] is not None:
        yield "student_train.labelled_share", f"a batch is all labelled, as {why}"
    if "strong" not in declared(loss, "extra_views", ()) and config["student_train"]["strong_augment"]:
        yield (
            "student_train.strong_augment",
            f"{named} compares no two views of a row: set augment=, choose loss=fixmatch, or leave it out",
        )


def _row_makers(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Of what makes rows."""
    pool = read_pool(config)
    for group, maker in (("made_up", read_made_up(config)), ("pool", pool.source if pool else None)):
        if maker and (group == "made_up" or (pool and pool.makes)):
            yield from ((f"{group}.{key}", why) for key, why in idle_keys(maker).items())


def _precision(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """That of the answers."""
    teachers = list(config["members"].values()) or [config["teacher"]]
    once = config["rounds"] == 1 and not config["assistants"]
    if once and all(is_given(keys) or is_finished(keys) or is_fitted(keys) for keys in teachers):
        yield "pseudo_label.precision", "the teacher is no network whose bits could be fewer: leave it out"


def _format(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is kept of each stored answer."""
    asked = config["pseudo_label"]
    name = asked["format"]
    if is_given(config["teacher"]):
        why = "the answers are in a file, and no network makes any: leave it out"
        yield from ((f"pseudo_label.{key}", why) for key in ("shards", "shard"))
    if asked["mode"] == "live":
        why = "no answer is stored, as pseudo_label.mode=live: leave one of them out"
        yield from ((f"pseudo_label.{key}", why) for key in ("format", "k", "draws", "shards", "shard"))
        return
    written = (("prompt", ("text",)), ("drawn_at", ("text",)))
    for key, formats in (("k", ("topk", "auto")), ("draws", ("sampled", "auto")), *written):
        if name not in formats:
            yield (
                f"pseudo_label.{key}",
                f"it is of pseudo_label.format={formats[0]}, and this is {name}: leave one of them out",
            )
    if name not in ("topk", "auto"):
        yield (
            "loss.rest",
            f"it says what is done with what is not among the k likeliest, and pseudo_label.format={name} "
            "has no such: set pseudo_label.format=topk, or leave it out",
        )


def _training(node: str, spec: Mapping[str, Any], unseen: str | None) -> Iterator[tuple[str, str]]:
    """What the optimiser, the schedule or the length of a training leaves without effect. unseen: why nothing
    is validated.
    """
    if unseen:
        watched = ("patience", "target", "evaluate_every")
        yield from ((f"{node}.{key}", unseen) for key in watched if spec[key] is not None)
    if spec["optimiser"] == "adamw":
        yield (
            f"{node}.momentum",
            f"it is for sgd, and {node}.optimiser=adamw: set {node}.optimiser=sgd, or leave it out",
        )
    if spec["schedule"] != "step":
        yield (
            f"{node}.milestones",
            (
                f"they are for the schedule step, and {node}.schedule={spec['schedule']}: set "
                f"{node}.schedule=step, or leave them out"
            ),
        )
    if spec["schedule"] == "one_cycle" and spec["warmup"] != 0:
        yield (
            f"{node}.warmup",
            f"{node}.schedule=one_cycle has a warm-up of its own: leave it out, or choose another schedule",
        )
    steps, unit = length(spec, node)
    if unit != "steps":
        return
    if spec["schedule"] != "one_cycle" and isinstance(spec["warmup"], int) and spec["warmup"] >= steps:
        yield (
            f"{node}.warmup",
            f"the training has {steps} steps and would end before the full rate: set it lower",
        )
    looks = math.ceil(steps / (spec["evaluate_every"] or max(1, steps // VALIDATIONS)))
    if not unseen and spec["patience"] is not None and spec["patience"] >= looks:
        yield (
            f"{node}.patience",
            f"the training looks at validation {looks} times in all: set it lower, or {node}.evaluate_every",
        )
