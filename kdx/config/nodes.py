"""The nodes of a configuration, checked one by one: each function gives what its node stands for, or raises
UserError.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdx.config.described import component
from kdx.config.named_options import read_augmentation
from kdx.core import checks
from kdx.core.errors import UserError, in_short, nearest
from kdx.core.launch import launched
from kdx.pipeline.recipes.experiment import Checkpoint, Experiment
from kdx.pipeline.recipes.sharding import wrong_shard
from kdx.pipeline.recipes.written import written_by
from kdx.store.component import Component
from kdx.store.declared import declared
from kdx.store.resolve import importable
from kdx.store.source import Source
from kdx.tasks.kept import ANSWER_FORMATS, MOST_DRAWS
from kdx.training.length import SIZES, STAGES, length
from kdx.training.runtime import Runtime

MOST_ROUNDS = 1000
"""More of them are a slip of the pen."""
_OF_RUNS = ("class_weights", "duplicates", "near_copies", "kd_temperature")
"""Keys of `dataset` that no loader takes."""


def read_dataset(node: Mapping[str, Any]) -> Component:
    """The loader; its path arguments stay,
    and are known by the content of the files that the loader names.
    """
    return component("dataset", {k: v for k, v in node.items() if k not in (*SIZES, *_OF_RUNS)})


def read_training(node: str, config: Mapping[str, Any]) -> Component:
    """The settings of a stage with its augmentation spelled out; the length is parsed here, so that an error
    comes early.
    """
    spec = dict(config[node])
    spec["batch_size"] = checks.integer(f"{node}.batch_size", spec["batch_size"], low=1, instead=64)
    count, unit = length(spec, node)
    spec |= {"epochs": None, "steps": None, "length": f"{count} {unit}"}
    if checks.integer(f"{node}.accumulate", spec.get("accumulate", 1), low=1) == 1:
        spec.pop("accumulate", None)  # so that nothing that is stored is known by it
    for key, plain in (("head_first", 0), ("layer_decay", 1)):
        if type(spec.get(key, plain)) in (int, float) and spec.get(key, plain) == plain:
            spec.pop(key, None)  # likewise
    for key in ("augment", "strong_augment"):
        spec[key] = [[k, v] for k, v in read_augmentation(spec.get(key), f"{node}.{key}").items()]
        for name, step in spec[key]:
            with checks.gather(messages := []):
                component(f"augment.{name}", step)
            for message in messages:
                checks.refuse(message)
        spec[key] = [
            [name, _with_content(name, step)] for name, step in spec[key] if isinstance(step, Mapping)
        ]
    return Component({"_target_": "kdx.training.settings.Training", **spec})


def _with_content(name: str, step: Mapping[str, Any]) -> dict[str, Any]:
    """A step's spec; of one that reads a file with what that holds, by which its views are known."""
    found = dict(step)
    try:
        keys = declared(found["_target_"], "paths", ())
    except (UserError, KeyError):
        return found  # reported where it is built
    for key in keys:
        path = found.get(key)
        if isinstance(path, str) and path:
            file = Path(os.path.expanduser(path))
            if not file.is_file():
                checks.refuse(f"augment.{name}.{key} '{path}' is no file: name one that is there")
                return found
            found["content"] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def read_select(config: Mapping[str, Any]) -> Component | None:
    """The rule that chooses among the pool; None: all of it. The recipe `active` goes with the rules that
    buy.
    """
    return component("select", config["select"]) if config.get("select") else None


def read_init(config: Mapping[str, Any]) -> Component | None:
    """What the student's weights are made of; None: nothing, they are fresh."""
    return component("init", config["init"]) if config.get("init") else None


def read_aggregate(config: Mapping[str, Any]) -> Component | None:
    """What makes one answer of those of several teachers; None: the mean."""
    return component("aggregate", config["aggregate"]) if config.get("aggregate") else None


def wrong_aggregate(experiment: Experiment, config: Mapping[str, Any]) -> Iterator[str]:
    """Why it can never act on the teachers that there are."""
    if experiment.aggregate and (experiment.given or len(experiment.teachers) == 1):
        who = "answers in a file come as one" if experiment.given else "there is one teacher"
        option = config["choices"].get("aggregate")
        yield (
            f"aggregate={option} makes one answer of those of several teachers, and {who}: name several, "
            "teachers=[cnn,resnet20] or teacher.members=5, or leave it out"
        )


def read_count(name: str, value: Any, high: int = checks.MOST) -> int | None:
    words = ["null"] if name == "round_patience" else []
    return value if value is None and words else checks.integer(name, value, low=1, high=high, words=words)


def read_budget(value: Any) -> int | float | None:
    """A number of answers, or a share of the pool. Whether the rule and the recipe go with it is looked at by
    kdx.config.validate.
    """
    count = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= checks.MOST
    if not (value is None or count or (isinstance(value, float) and 0 < value < 1)):
        raise UserError(
            "budget must be a number of answers, at least 1, or a share of the pool in (0, 1); given: "
            f"{checks.shown(value)}"
        )
    return value


def read_prices(config: Mapping[str, Any]) -> None:
    """What a bought answer costs: looked at here, and read by the report alone."""
    asked = [key for key in ("answer_price", "answer_seconds") if config.get(key) is not None]
    for key in asked:
        checks.number(key, config[key], low=0)
    if asked and config.get("budget") is None:
        raise UserError(
            f"{asked[0]} is what an answer costs that is bought, and this run buys none: choose a rule that "
            "buys, select=rad budget=100, say, or leave it out"
        )


_WHOLE = {
    **{"format": "dense", "k": 1, "draws": 1, "prompt": 0.25, "drawn_at": 1, "temperature": 1},
    **{"precision": "auto", "shards": 1, "shard": None},
}
"""Of runs of before, which stored all of each answer, as it was, in one piece; what is of formats means
nothing there."""
_MOST_SHARDS = 10_000


def read_pseudo_label(node: Mapping[str, Any]) -> dict[str, Any]:
    node = {**_WHOLE, **node}
    checks.choice("pseudo_label.mode", node["mode"], ("stored", "live", "auto"))
    checks.choice("pseudo_label.view", node["view"], ("same", "clean"))
    checks.choice("pseudo_label.gate", node["gate"], ("warn", "error"))
    old = node["near_chance"] is not None and checks.choice(
        "pseudo_label.near_chance", node["near_chance"], ("warn", "error")
    )
    checks.integer("pseudo_label.limit", node["limit"], low=0)
    checks.integer("pseudo_label.passes", node["passes"], low=0, high=10_000)
    if node["temperature"] not in ("auto", "fitted"):
        words = ["auto", "fitted"]
        checks.number("pseudo_label.temperature", node["temperature"], low=0, open_low=True, words=words)
    if node["passes"] and node["temperature"] not in ("auto", 1):
        checks.refuse(
            "pseudo_label.passes look at the answers as they are, and pseudo_label.temperature changes them: "
            "leave one of the two out"
        )
    if node["passes"] == 1:
        checks.refuse("pseudo_label.passes must be 0, or at least 2: a deviation needs two")
    if node["views"] is not None:
        checks.integer("pseudo_label.views", node["views"], low=1)
    checks.choice("pseudo_label.precision", node["precision"], ("auto", "fp32", "bf16"))
    checks.choice("pseudo_label.format", node["format"], ANSWER_FORMATS)
    checks.integer("pseudo_label.k", node["k"], low=1)
    checks.integer("pseudo_label.draws", node["draws"], low=1, high=MOST_DRAWS)
    written_by(node)
    of = checks.integer("pseudo_label.shards", node["shards"], low=1, high=_MOST_SHARDS)
    if node["shard"] is not None:
        checks.refuse_all(wrong_shard(checks.integer("pseudo_label.shard", node["shard"], low=0), of))
    return {**node, "gate": old} if old == "error" else node


def read_stages(stages: Any, shard: Any = None) -> frozenset[str]:
    """shard: see `pseudo_label.shard`; whoever makes one trains no student."""
    stages = [stages] if isinstance(stages, str) else stages
    if not isinstance(stages, list) or stages != list(STAGES[: len(stages)]) or not stages:
        typing = (
            [f"'{s}'{nearest(s, STAGES)}" for s in stages if isinstance(s, str) and s not in STAGES]
            if isinstance(stages, list)
            else []
        )
        raise UserError(
            (
                f"stages must be [{', '.join(STAGES)}] or the first one or two of them; given: "
                f"{checks.shown(stages)}"
            )
            + "".join(f"; there is no {t}" for t in typing)
        )
    if shard is not None and stages == ["teacher_pretrain"]:
        raise UserError(
            f"pseudo_label.shard={checks.shown(shard)} is of the stage pseudo_label, and stages= ends before "
            "it: leave one of them out"
        )
    return frozenset(stages if shard is None else stages[:2])


def read_packages(packages: Any) -> list[str]:
    packages = [packages] if isinstance(packages, str) else packages
    if not isinstance(packages, list) or not all(isinstance(p, str) and p for p in packages):
        raise UserError(
            "allow must be a list of package names, such as allow=[my_losses]; given: "
            f"{checks.shown(packages)}"
        )
    checks.refuse_all(
        in_short(
            [
                (
                    f"allow={name}: there is no package '{name}' to import; does it lie in this folder, or "
                    "in one on PYTHONPATH, or is it installed?"
                )
                for name in packages
                if not importable(name)
            ],
            "allow",
        )
    )
    return packages


def read_seed(value: Any) -> int:
    return checks.integer("seed", value, low=0)


def read_runtime(node: Mapping[str, Any]) -> Runtime | None:
    """None where a value is wrong and only gathered: what could not be set is not tried out."""
    found: list[str] = []
    with checks.gather(found):
        runtime = Runtime(**{**node, **_started(node)})
    for message in found:
        checks.refuse(message)
    return None if found else runtime


def _started(node: Mapping[str, Any]) -> dict[str, int]:
    """How many processes torchrun has started, where it did."""
    here = launched()
    if here is None:
        return {}
    if node.get("gpus") not in (1, here[1]):
        checks.refuse(
            f"device.gpus={node.get('gpus')}, and torchrun started {here[1]} processes: leave one of them out"
        )
    return {"gpus": here[1]}


def checkpoint_of(role: str, node: dict[str, Any]) -> Checkpoint | None:
    """The file that a role begins with; its settings are taken out of the node, which is the model's."""
    path, key = node.pop("checkpoint", None), node.pop("key", None)
    if key is not None and (not isinstance(key, str) or not key):
        raise UserError(
            f"{role}.key must name where in the checkpoint the weights lie, such as {role}.key=model_ema; "
            f"given: {checks.shown(key)}"
        )
    if path is None:
        if key is not None:
            raise UserError(
                f"{role}.key={key} says where in a checkpoint the weights lie, and there is none: set "
                f"{role}.checkpoint=PATH, or leave it out"
            )
        return None
    if not isinstance(path, str) or not path:
        raise UserError(f"{role}.checkpoint must be the path of a file; given: {checks.shown(path)}")
    found = os.path.expanduser(path)
    if not os.path.isfile(found):
        what = (
            "is a folder, not a file"
            if os.path.isdir(found)
            else "is no ordinary file"
            if os.path.exists(found)
            else "does not exist"
        )
        raise UserError(
            f"{role}.checkpoint '{path}' {what}: give the path of a .pt, .pth or .safetensors file of weights"
        )
    return Checkpoint(Source(path), key)
