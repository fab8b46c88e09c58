"""A composed configuration, as plain values, turned into the objects of a run. Knows the names of `conf/train.yaml`; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from kdx import checks
from kdx.budget import length, total_steps
from kdx.component import Component, Source, allow
from kdx.faults import Fault, Faults, nearest
from kdx.locate import conf_dir
from kdx.recipes import Plan
from kdx.runtime import Runtime

SIZES = ("labelled", "unlabelled", "validation", "test")
STAGES = ("teacher_pretrain", "pseudo_label", "student_train")
RUNS_IN = {"teacher_pretrain": ("teacher-pretrain",), "pseudo_label": ("pseudo-label",), "student_train": ("student-train", "baseline-train")}
ALWAYS = ("prepare", "probe", "evaluate")


@dataclass(frozen=True)
class Order:
    """Everything that a run needs. until: names of the stages that may run, None: all."""

    recipe: Component
    plan: Plan
    runtime: Runtime
    store: Path
    until: frozenset[str] | None
    headline: str
    config: Mapping[str, Any]


def wire(config: Mapping[str, Any]) -> Order:
    """Raises Faults: everything that can be told without torch and without opening the data."""
    faults: list[str] = []

    def part(function: Any, *arguments: Any) -> Any:
        found: list[str] = []
        with checks.gather(found):
            value = function(*arguments)
        faults.extend(found)
        return value if not found else None

    allow(part(_names, config["allow"]) or [])
    dataset = part(_dataset, config["dataset"])
    teacher = dict(config["teacher"])
    checkpoint = teacher.pop("checkpoint", None)
    nodes = {node: part(_training, node, config) for node in ("teacher_pretrain", "student_train")}
    pseudo_label = part(_pseudo_label, config["pseudo_label"])
    seed = part(_seed, config["seed"])
    until = part(_until, config["stages"])
    headline = part(checks.choice, "headline", config["headline"], ("last", "best"))
    baseline = part(_flag, "baseline", config["baseline"])
    runtime = part(_runtime, config["device"])
    source = part(_checkpoint, checkpoint)
    if nodes["student_train"] and pseudo_label and pseudo_label["view"] == "clean" and "mixup" in dict(nodes["student_train"].spec["augment"]):
        faults.append("pseudo_label.view=clean answers one clean picture, and mixup mixes two: use pseudo_label.view=same, or leave mixup out")
    if faults:
        raise Faults(faults)
    pretrained = checkpoint is not None or teacher.get("weights") is not None
    asked = config["teacher_pretrain"]["epochs"] is not None or config["teacher_pretrain"]["steps"] is not None
    plan = Plan(
        dataset=dataset,
        sizes={name: config["dataset"][name] for name in SIZES},
        teacher=Component(teacher),
        checkpoint=source,
        student=Component(config["student"]),
        teacher_loss=Component(config["teacher_loss"]),
        loss=Component(config["loss"]),
        controls={"baseline": Component(config["baseline_loss"])} if baseline else {},
        teacher_pretrain=nodes["teacher_pretrain"] if asked or not pretrained else None,
        pseudo_label=pseudo_label,
        student_train=nodes["student_train"],
        seed=seed,
    )
    return Order(Component(config["recipe"]), plan, runtime, Path(config["store"]).expanduser(), until, headline, config)


def _dataset(node: Mapping[str, Any]) -> Component:
    """The loader; its path arguments stay, and are known by the content of the files that the loader names."""
    return Component({k: v for k, v in node.items() if k not in SIZES})


def _training(node: str, config: Mapping[str, Any]) -> Component:
    """The settings of a stage with its augmentation spelled out; the length is parsed here, so that a fault comes early."""
    spec = dict(config[node])
    checks.integer(f"{node}.batch_size", spec["batch_size"], low=1)
    count, unit = length(spec, node)
    total_steps(spec, 1, node)
    spec |= {"epochs": None, "steps": None, "length": f"{count} {unit}", "augment": [[k, v] for k, v in augmentation(spec["augment"], node).items()]}
    return Component({"_target_": "kdx.trainer.Training", **spec})


def augmentation(asked: Any, node: str) -> dict[str, Any]:
    """name -> spec, from a mapping as composed, or from names of files in conf/augment: `affine` or `[flip_crop, cutout]`."""
    if isinstance(asked, Mapping):
        return dict(asked)
    names = [asked] if isinstance(asked, str) else list(asked or [])
    folder = conf_dir() / "augment"
    known = [p.stem for p in folder.glob("*.yaml")]
    found: dict[str, Any] = {}
    for name in names:
        if name not in known:
            raise Fault(f"{node}.augment has no option '{name}'{nearest(str(name), known)}")
        found |= yaml.safe_load((folder / f"{name}.yaml").read_text()) or {}
    return found


def _pseudo_label(node: Mapping[str, Any]) -> dict[str, Any]:
    checks.choice("pseudo_label.mode", node["mode"], ("stored", "live", "auto"))
    checks.choice("pseudo_label.view", node["view"], ("same", "clean"))
    checks.choice("pseudo_label.near_chance", node["near_chance"], ("warn", "error"))
    checks.integer("pseudo_label.limit", node["limit"], low=0)
    if node["views"] is not None:
        checks.integer("pseudo_label.views", node["views"], low=1)
    return dict(node)


def _until(stages: Any) -> frozenset[str] | None:
    stages = [stages] if isinstance(stages, str) else list(stages)
    for name in stages:
        checks.choice("stages", name, STAGES)
    if stages != list(STAGES[: len(stages)]) or not stages:
        raise Fault(f"stages must be a beginning of [{', '.join(STAGES)}]; given: [{', '.join(map(str, stages))}]")
    return frozenset(ALWAYS + sum((RUNS_IN[s] for s in stages), ()))


def _names(packages: Any) -> list[str]:
    if isinstance(packages, str):
        return [packages]
    if not isinstance(packages, list) or not all(isinstance(p, str) for p in packages):
        raise Fault(f"allow must be a list of package names, such as allow=[my_losses]; given: {packages!r}")
    return packages


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise Fault(f"{name} must be true or false; given: {value!r}")
    return value


def _seed(value: Any) -> int:
    return checks.integer("seed", value, low=0)


def _runtime(node: Mapping[str, Any]) -> Runtime:
    return Runtime(**node)


def _checkpoint(path: Any) -> Source | None:
    if path is None:
        return None
    if not isinstance(path, str) or not Path(path).expanduser().is_file():
        raise Fault(f"teacher.checkpoint '{path}' does not exist or is no file")
    return Source(path)


def with_sources(order: Order) -> Order:
    """The same, with the data set's files known by their content. They must be there by now."""
    loader = order.plan.dataset.build()
    files = loader.files()
    if not files:
        return order
    spec = order.plan.dataset.spec
    dataset = Component(spec, {k: Source(*files) for k in spec if k == "root" or k.endswith("_root")} or {"files": Source(*files)})
    return replace(order, plan=replace(order.plan, dataset=dataset))
