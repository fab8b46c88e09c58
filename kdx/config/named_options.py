"""Nodes that name options: steps of augmentation, and assistants."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdx.config.described import component
from kdx.config.options import no_address, own, read_option, unlike
from kdx.core import checks
from kdx.core.errors import UserError, in_short, nearest
from kdx.core.paths import conf_dir
from kdx.store.component import Component
from kdx.store.declared import declared

_EXAMPLES = {"augment": "affine", "shift": "rotation"}
MOST_ASSISTANTS = 16
"""More of them are a slip of the pen."""


def read_augmentation(asked: Any, node: str) -> dict[str, Any]:
    """name -> spec, from a mapping as composed, or from names of files in conf/augment: `affine` or
    `[flip_crop, cutout]`.
    """
    return read_steps(node, asked, "augment")


def read_steps(node: str, asked: Any, group: str, without: Collection[str] = ()) -> dict[str, Any]:
    """The same of any group of steps. without: options that are not offered, as they are none here."""
    folder = conf_dir() / group
    known = [p.stem for p in folder.glob("*.yaml")]
    offered = [name for name in known if name not in without]
    if isinstance(asked, Mapping):
        wrong = [
            name for name, spec in asked.items() if not isinstance(spec, Mapping) or "_target_" not in spec
        ]
        checks.refuse_all(
            in_short(
                [
                    f"{node} must name options, such as {node}=[{_EXAMPLES[group]}]; given: "
                    f"{checks.shown({name: asked[name]})}; the values of one are set with "
                    f"{group}.{name}.KEY=VALUE"
                    for name in wrong
                ],
                node,
            )
        )
        return {name: spec for name, spec in asked.items() if name not in wrong}
    names = [asked] if isinstance(asked, str) else [] if asked is None else asked
    if not isinstance(names, list):
        checks.refuse(
            f"{node} must name options, such as {node}=[{_EXAMPLES[group]}]; given: {checks.shown(asked)}"
        )
        return {}
    found: dict[str, Any] = {}
    wrong = [
        f"{node} has no option '{checks.shown(name, bare=True)}'{nearest(str(name), offered)}"
        for name in names
        if name not in known
    ]
    checks.refuse_all(in_short(wrong or unlike(node, names), node))
    for name in names:
        if name in known:
            found |= read_option(folder / f"{name}.yaml") or {}
    return found


def read_loss(node: str, spec: Any) -> Component:
    """A loss; networks that it names by the options of conf/model are described in it."""
    made = component(node, spec)
    return _with_networks(node, made, declared(made.target, "networks", ()))


def read_network(node: str, spec: Any) -> Component:
    """A network, in which those that it names by the options of conf/model are described. Which input of a
    row it reads is a key of it only where that is asked for."""
    if isinstance(spec, Mapping) and "reads" in spec and spec["reads"] is None:
        spec = {key: value for key, value in spec.items() if key != "reads"}
    made = component(node, spec)
    try:
        keys = declared(made.target, "networks", ())
    except UserError:
        return made  # reported where it is built
    return _with_networks(node, made, keys)


def _with_networks(node: str, made: Component, keys: Sequence[str]) -> Component:
    found = dict(made.spec)
    for key in keys:
        if found.get(key) is not None:
            found[key] = [model.spec for model in read_models(f"{node}.{key}", found[key])]
    return Component(found, made.sources, made.places) if keys else made


def read_assistants(names: Any) -> list[Component]:
    """Networks between teacher and student, by name."""
    return read_models("assistants", names)


def read_models(node: str, names: Any) -> list[Component]:
    """Networks by name, as conf/model has them, or `model/` in the user's own folder."""
    known = {file.stem: file for place in (*own, conf_dir()) for file in (place / "model").glob("*.yaml")}
    if not isinstance(names, list):
        raise UserError(f"{node} must name models, such as {node}=[cnn_small]; given: {checks.shown(names)}")
    if len(names) > MOST_ASSISTANTS:
        raise UserError(
            f"{node} names {len(names)} models, each to be trained, and at most {MOST_ASSISTANTS} are taken"
        )
    everything = f"; kdx list student shows all {len(known)}"
    wrong = [
        f"{node} has no model '{checks.shown(name, bare=True)}'{nearest(str(name), known) or everything}"
        for name in names
        if name not in known
    ]
    checks.refuse_all(in_short(wrong, node))
    return [component(f"assistants.{name}", _part(known[name])) for name in names if name in known]


def _part(file: Path) -> Any:
    """What an option file holds; UserError where it is none, or names no code."""
    found = read_option(file)
    if not isinstance(found, Mapping) or not isinstance(found.get("_target_"), str):
        raise UserError(no_address(file))
    return found
