"""A composed configuration, as plain values, turned into the objects of a run. Knows the names of
`conf/train.yaml`; imports no torch.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from kdx.core import checks
from kdx.core.errors import UserError, UserErrors, in_short, nearest
from kdx.core.paths import conf_dir
from kdx.data.files import Files
from kdx.pipeline.controls import OURS
from kdx.pipeline.controls.control import Alone, ControlTraining, build_control
from kdx.pipeline.recipes.experiment import Checkpoint, Experiment
from kdx.pipeline.recipes.recipe import build_recipe
from kdx.store.component import Component, targets
from kdx.store.moved import current
from kdx.store.places import path_keys
from kdx.store.resolve import allow, from_own_package, own_error
from kdx.store.source import Source
from kdx.training.length import SIZES, STAGES, length
from kdx.training.runtime import Runtime

MOST_ROUNDS, MOST_ASSISTANTS = 1000, 16
"""More of them are a slip of the pen."""
GROUP_OF = {"teacher": "model", "student": "model", "teacher_loss": "loss", "baseline_loss": "loss"}
"""Nodes whose code is of another group's kind; all others are of the group of their own name."""
SLOTS_OF_A_LOSS = ("weights", "features")


@dataclass(frozen=True)
class Order:
    """Everything that a run needs. until: the nodes whose stages may run, None: all. shifts: under which
    the test pictures are looked at too.

    sound: nothing was refused; else parts of it are None, and it is good for finding more errors only.
    """

    recipe: Component
    plan: Experiment
    runtime: Runtime
    store: Path
    until: frozenset[str] | None
    headline: str
    shifts: Sequence[tuple[str, Component]]
    config: Mapping[str, Any]
    sound: bool


def wire(config: Mapping[str, Any]) -> Order:
    """Raises UserErrors: everything that can be known without torch and without opening the data."""
    order, errors = examine_config(config)
    if errors:
        raise UserErrors(errors)
    return order


def examine_config(config: Mapping[str, Any]) -> tuple[Order, list[str]]:
    """(the order, everything wrong with it that can be known without torch and without opening the data).

    Where there are errors the order is good for looking for more of them only: a part that could not be made
    is None.
    """
    config, errors = current(config), []

    def part(function: Any, *arguments: Any) -> Any:
        return checks.attempt(errors, function, *arguments)

    allow(part(_names, config["allow"]) or [])
    teacher, student = dict(config["teacher"]), dict(config["student"])
    checkpoint = part(_checkpoint, "teacher", teacher)
    begins = part(_checkpoint, "student", student)
    nodes: dict[str, Component | None] = dict.fromkeys(("teacher_pretrain", "student_train"))
    for node in nodes:
        # what is refused has a stand-in, so that the class can tell what else is wrong
        with checks.gather(errors):
            nodes[node] = _training(node, config)
    pseudo_label = part(_pseudo_label, config["pseudo_label"])
    recipe = part(_component, "recipe", config["recipe"])
    mixed = nodes["student_train"] and "mixup" in dict(nodes["student_train"].spec["augment"])
    asks = part(build_recipe, recipe) if recipe else None
    if mixed and asks and asks.buys:
        errors.append(
            "an answer that is bought is for one clean picture, and mixup mixes two: leave mixup out"
        )
    elif mixed and pseudo_label and pseudo_label["view"] == "clean":
        errors.append(
            "pseudo_label.view=clean answers one clean picture, and mixup mixes two: use "
            "pseudo_label.view=same, or leave mixup out"
        )
    select = part(_select, config)
    pretrained = config["teacher"].get("checkpoint") is not None or teacher.get("weights") is not None
    asked = (
        config["teacher_pretrain"]["epochs"] is not None or config["teacher_pretrain"]["steps"] is not None
    )
    plan = Experiment(
        dataset=part(_dataset, config["dataset"]),
        sizes={name: config["dataset"][name] for name in SIZES},
        class_weights=part(
            checks.choice, "dataset.class_weights", config["dataset"]["class_weights"], ("none", "balanced")
        ),
        duplicates=part(
            checks.choice, "dataset.duplicates", config["dataset"]["duplicates"], ("warn", "drop", "error")
        ),
        teacher=part(_component, "teacher", teacher),
        checkpoint=checkpoint,
        student=part(_component, "student", student),
        student_checkpoint=begins,
        teacher_loss=part(_component, "teacher_loss", config["teacher_loss"]),
        loss=part(_component, "loss", config["loss"]),
        assistants=part(_assistants, config["assistants"]) or [],
        controls=part(_controls, config, student, nodes["student_train"]) or {},
        teacher_pretrain=nodes["teacher_pretrain"] if asked or not pretrained else None,
        pseudo_label=pseudo_label,
        student_train=nodes["student_train"],
        seed=part(_seed, config["seed"]),
        select=select,
        rounds=part(_whole, "rounds", config["rounds"], MOST_ROUNDS),
        student_init=part(checks.choice, "student_init", config["student_init"], ("fresh", "previous")),
        round_patience=part(_whole, "round_patience", config["round_patience"]),
        budget=part(_budget, config["budget"]),
    )
    order = Order(
        recipe=recipe if asks else None,
        plan=plan,
        runtime=part(_runtime, config["device"]),
        store=part(checks.place, "store", config["store"]),
        until=part(_until, config["stages"]),
        headline=part(checks.choice, "headline", config["headline"], ("last", "best")),
        shifts=[
            (name, found)
            for name, spec in config["shift"].items()
            if (found := part(_component, f"shift.{name}", spec))
        ],
        config={**config, "pseudo_label": pseudo_label} if pseudo_label else config,
        sound=not errors,
    )
    return order, list(dict.fromkeys(errors))


def _dataset(node: Mapping[str, Any]) -> Component:
    """The loader; its path arguments stay,
    and are known by the content of the files that the loader names.
    """
    return _component(
        "dataset", {k: v for k, v in node.items() if k not in (*SIZES, "class_weights", "duplicates")}
    )


def _component(node: str, spec: Any) -> Component:
    """A described thing, whose code is of the kind that its node holds: what the options of conf/ name, or
    comes from a package that was allowed.

    Any other function of kdx would be called with arguments that a preset chooses.
    """
    if not isinstance(spec, Mapping):
        raise UserError(f"{node} must hold a _target_ and its keys; given: {checks.shown(spec)}")
    _check_target(node, _group(node), spec.get("_target_"))
    made = Component(spec)
    for key, inner in made.spec.items():
        if key in SLOTS_OF_A_LOSS and _group(node) == "loss":
            _component(f"{node}.{key}", inner)
        elif any(True for _ in targets(inner)):
            checks.refuse(
                f"{node}.{key} holds a _target_, and is no slot for one; given: {checks.shown(inner)}"
            )
    return made


def _group(node: str) -> str:
    """The folder of conf/ that has the options of a node."""
    first, _, last = node.partition(".")
    return last if last in SLOTS_OF_A_LOSS else GROUP_OF.get(first, first)


def _check_target(node: str, group: str, target: Any) -> None:
    if not isinstance(target, str):
        raise UserError(
            f"{node}._target_ must be the address of its code, such as "
            f"{min(_addresses(group), default='a.b.C')}; given: {checks.shown(target)}"
        )
    if target in _addresses(group) or from_own_package(target):
        return
    raise UserError(
        f"{node}._target_ '{checks.shown(target, bare=True)}' is not allowed: no option of conf/{group} has "
        "it; name your own package on the command line with allow=[package]"
    )


@functools.cache
def _addresses(group: str) -> frozenset[str]:
    """Every `_target_` that the options of a group have."""
    folders = ("shift", "augment") if group == "shift" else (group,)
    texts = [
        file.read_text(encoding="utf-8")
        for folder in folders
        for file in sorted((conf_dir() / folder).rglob("*.yaml"))
    ]
    return frozenset(found[1] for text in texts for found in re.finditer(r"\b_target_: *(kdx\.[\w.]+)", text))


def _training(node: str, config: Mapping[str, Any]) -> Component:
    """The settings of a stage with its augmentation spelled out; the length is parsed here, so that an error
    comes early.
    """
    spec = dict(config[node])
    spec["batch_size"] = checks.integer(f"{node}.batch_size", spec["batch_size"], low=1, instead=64)
    count, unit = length(spec, node)
    spec |= {"epochs": None, "steps": None, "length": f"{count} {unit}"}
    for key in ("augment", "strong_augment"):
        spec[key] = [[k, v] for k, v in _augmentation(spec.get(key), f"{node}.{key}").items()]
        for name, step in spec[key]:
            with checks.gather(messages := []):
                _component(f"augment.{name}", step)
            for message in messages:
                checks.refuse(message)
        spec[key] = [[name, step] for name, step in spec[key] if isinstance(step, Mapping)]
    return Component({"_target_": "kdx.training.settings.Training", **spec})


def _select(config: Mapping[str, Any]) -> Component | None:
    """The rule that chooses among the pool; None: all of it. The recipe `active` goes with the rules that
    buy.
    """
    return _component("select", config["select"]) if config.get("select") else None


def _assistants(names: Any) -> list[Component]:
    """Networks by name, as conf/model has them."""
    folder = conf_dir() / "model"
    known = [p.stem for p in folder.glob("*.yaml")]
    if not isinstance(names, list):
        raise UserError(
            f"assistants must name models, such as assistants=[cnn_small]; given: {checks.shown(names)}"
        )
    if len(names) > MOST_ASSISTANTS:
        raise UserError(
            f"assistants names {len(names)} models, each to be trained, and at most "
            f"{MOST_ASSISTANTS} are taken"
        )
    wrong = [
        f"assistants has no model '{checks.shown(name, bare=True)}'{nearest(str(name), known)}"
        for name in names
        if name not in known
    ]
    checks.refuse_all(in_short(wrong, "assistants"))
    return [
        Component(yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8")))
        for name in names
        if name in known
    ]


def _controls(
    config: Mapping[str, Any], model: Mapping[str, Any], training: Component | None
) -> dict[str, ControlTraining]:
    """role -> control with its training: those of kdx that a key asks for, then the user's own."""
    wanted = {role: checks.flag(role, config[role]) for role in OURS}
    own = config.get("controls") or {}
    if not isinstance(own, Mapping):
        raise UserError(f"controls must hold controls by name; given: {checks.shown(own)}")
    described = {role: Component({"_target_": OURS[role]}) for role in OURS if wanted[role] is True}
    for role, spec in own.items():
        with checks.gather(errors := []):
            described[role] = _component(f"controls.{role}", spec)
        checks.refuse_all(errors)
    if training is None:
        return {}
    alone = Alone(
        _component("baseline_loss", config["baseline_loss"]), _component("student", model), training
    )
    return {role: _own_control(role, control, alone) for role, control in described.items()}


def _own_control(role: str, described: Component, alone: Alone) -> ControlTraining:
    """`build_control`; what the user's own code raises is reported with where."""
    try:
        return build_control(role, described, alone)
    except UserError:
        raise
    except Exception as error:
        if own := own_error(error):
            raise UserError(f"controls.{role}: your own code fails: {own}") from error
        raise


def _whole(name: str, value: Any, high: int = checks.MOST) -> int | None:
    return (
        value if value is None and name == "round_patience" else checks.integer(name, value, low=1, high=high)
    )


def _budget(value: Any) -> int | float | None:
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


def _augmentation(asked: Any, node: str) -> dict[str, Any]:
    """name -> spec, from a mapping as composed, or from names of files in conf/augment: `affine` or
    `[flip_crop, cutout]`.
    """
    folder = conf_dir() / "augment"
    known = [p.stem for p in folder.glob("*.yaml")]
    if isinstance(asked, Mapping):
        wrong = [
            name for name, spec in asked.items() if not isinstance(spec, Mapping) or "_target_" not in spec
        ]
        checks.refuse_all(
            in_short(
                [
                    f"{node} must name options, such as {node}=[affine]; given: "
                    f"{checks.shown({name: asked[name]})}; the values of one are set with "
                    f"augment.{name}.KEY=VALUE"
                    for name in wrong
                ],
                node,
            )
        )
        return {name: spec for name, spec in asked.items() if name not in wrong}
    names = [asked] if isinstance(asked, str) else [] if asked is None else asked
    if not isinstance(names, list):
        checks.refuse(f"{node} must name options, such as {node}=[affine]; given: {checks.shown(asked)}")
        return {}
    found: dict[str, Any] = {}
    wrong = [
        f"{node} has no option '{checks.shown(name, bare=True)}'{nearest(str(name), known)}"
        for name in names
        if name not in known
    ]
    checks.refuse_all(in_short(wrong, node))
    for name in names:
        if name in known:
            found |= yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    return found


def _pseudo_label(node: Mapping[str, Any]) -> dict[str, Any]:
    node = dict(node)
    checks.choice("pseudo_label.mode", node["mode"], ("stored", "live", "auto"))
    checks.choice("pseudo_label.view", node["view"], ("same", "clean"))
    checks.choice("pseudo_label.gate", node["gate"], ("warn", "error"))
    old = node["near_chance"] is not None and checks.choice(
        "pseudo_label.near_chance", node["near_chance"], ("warn", "error")
    )
    checks.integer("pseudo_label.limit", node["limit"], low=0)
    checks.integer("pseudo_label.passes", node["passes"], low=0, high=10_000)
    if node["passes"] == 1:
        checks.refuse("pseudo_label.passes must be 0, or at least 2: a deviation needs two")
    if node["views"] is not None:
        checks.integer("pseudo_label.views", node["views"], low=1)
    return {**node, "gate": old} if old == "error" else node


def _until(stages: Any) -> frozenset[str] | None:
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
    return frozenset(stages)


def _names(packages: Any) -> list[str]:
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
                    f"allow={name}: there is no package '{name}' to import; is its folder on "
                    "PYTHONPATH, or installed?"
                )
                for name in packages
                if importlib.util.find_spec(name.split(".")[0]) is None
            ],
            "allow",
        )
    )
    return packages


def _seed(value: Any) -> int:
    return checks.integer("seed", value, low=0)


def _runtime(node: Mapping[str, Any]) -> Runtime | None:
    """None where a value is wrong and only gathered: what could not be set is not tried out."""
    found: list[str] = []
    with checks.gather(found):
        runtime = Runtime(**node)
    for message in found:
        checks.refuse(message)
    return None if found else runtime


def _checkpoint(role: str, node: dict[str, Any]) -> Checkpoint | None:
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


def with_sources(order: Order, tell: Callable[[str, str], None]) -> Order:
    """The same, with the data set's files known by their content. They must be there by now. tell: see
    `known`.
    """
    return replace(order, plan=replace(order.plan, dataset=known(order.plan.dataset, tell)))


def known(dataset: Component, tell: Callable[[str, str], None] = lambda text, level: None) -> Component:
    """A data set known by the content of its files, each under the part that it belongs to, and not by where
    they lie. tell: hears what there is to say of where they lie, with its level.

    A loader whose files are always the same ones, in one order, names them as a list; another by part, each
    with a name of its own.
    """
    files = dataset.build().files()
    for text, level in files.notes if isinstance(files, Files) else ():
        tell(text, level)
    if not files:
        return dataset
    parts = (
        {part: Source(named=named) for part, named in files.items()}
        if isinstance(files, Mapping)
        else {"files": Source(*files)}
    )
    return Component(dataset.spec, parts, places=path_keys(dataset.spec))
