"""The nodes that say where the rows of the pool come from, and steps of shift that stand for rows of another
place: each function gives what its node stands for, or raises UserError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdx.config.class_map_files import read_class_names
from kdx.config.described import component
from kdx.config.named_options import read_steps
from kdx.config.row_makers import read_maker
from kdx.config.yaml_files import read_yaml
from kdx.core import checks, path_checks
from kdx.core.errors import UserError
from kdx.pipeline.recipes.experiment import OtherPool
from kdx.store.component import Component
from kdx.store.declared import declared

_NO_STEPS = ("none", "corruptions", "fgsm", "pgd")
"""Options of conf/shift that are no step which changes a row: none, several, or against a network."""


def read_made_up(config: Mapping[str, Any]) -> Component | None:
    """What makes rows for the pool; None: nothing does."""
    option = config["choices"].get("made_up")
    found = read_maker("made_up", option, config["made_up"]) if config.get("made_up") else None
    if found:
        checks.integer("made_up.rows", found.spec.get("rows"), low=1)
    return found


def read_pool(config: Mapping[str, Any]) -> OtherPool | None:
    """What stands in for the data set's own pool; None: nothing does."""
    node = dict(config.get("pool") or {})
    if not node:
        return None
    name = config["choices"].get("pool", "own")
    if "by" in node:
        steps = read_steps("pool.by", node["by"], "shift", _NO_STEPS)
        found = [
            (step, component(f"shift.{step}", config["shift"].get(step, spec)))
            for step, spec in steps.items()
        ]
        if "corruptions" in (node["by"] if isinstance(node["by"], list) else [node["by"]]):
            raise UserError(
                "pool.by=[corruptions] would lay all of them over one row: name a kind, such as "
                "pool.by=[noise], and measure the test rows under each with shift=[corruptions]"
            )
        if not found and (not node["by"] or "none" in node["by"]):
            raise UserError("pool.by must name steps of shift, such as pool.by=[rotation]")
        if not found:
            return None
        return OtherPool(name, None, steps=found, test=checks.flag("pool.test", node["test"]))
    target = node.get("_target_")
    if isinstance(target, str) and declared(target, "makes_rows", False):
        return OtherPool(name, read_maker("pool", name, _with_ranges(node)), makes=True)
    asked = {key: node.pop(key, None) for key in ("limit", "test", "classes_map")}
    return OtherPool(
        name,
        component("pool", node),
        limit=None if asked["limit"] is None else checks.integer("pool.limit", asked["limit"], low=1),
        test=_tested(asked["test"]),
        classes=read_class_names("pool.classes_map", asked["classes_map"]),
    )


def read_domains(config: Mapping[str, Any]) -> list[tuple[str, Component | None]]:
    """Steps of shift that a recipe names, by session; none: rows as they are."""
    asked = config["recipe"].get("domains")
    if asked is None or config["recipe"].get("by") != "domain":
        return []
    if not isinstance(asked, list | tuple):
        raise UserError(
            "recipe.domains must name steps of shift, one a session, such as recipe.domains=[none,rotation]; "
            f"given: {checks.shown(asked)}"
        )
    found: list[tuple[str, Component | None]] = []
    for name in asked:
        steps = {} if name == "none" else read_steps("recipe.domains", [name], "shift", _NO_STEPS)
        made = [component(f"shift.{step}", config["shift"].get(step, spec)) for step, spec in steps.items()]
        found.append((str(name), made[0] if made else None))
    return found


def _with_ranges(node: Mapping[str, Any]) -> dict[str, Any]:
    """With what the file holds in which the ranges of columns stand, where one is named."""
    path = node.get("ranges")
    if not isinstance(path, str):
        return dict(node)
    file = path_checks.path("pool.ranges", path, "a file")
    if not file.is_file():
        raise UserError(f"pool.ranges '{path}' is no file: name one of lines column: [low, high]")
    return {**node, "ranges": dict(read_yaml(file, "it must hold lines column: [low, high]")[0])}


def _tested(value: Any) -> bool | int | float:
    """Whether, or how many of, another data set's rows are tested on."""
    if value is None or isinstance(value, bool):
        return bool(value)
    words = ["true", "false"]
    if isinstance(value, int):
        return checks.integer("pool.test", value, low=1, words=words)
    return checks.number("pool.test", value, low=0, high=1, open_low=True, open_high=True, words=words)
