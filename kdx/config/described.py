"""Things that a configuration describes: code by its address, of the kind that its node holds."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from kdx.core import checks
from kdx.core.errors import UserError
from kdx.core.files import finite_or_null
from kdx.core.model_folder import model_folder
from kdx.core.paths import conf_dir
from kdx.store.component import Component, targets, terms_of
from kdx.store.declared import declared
from kdx.store.resolve import from_own_package
from kdx.store.source import Source

GROUP_OF = {"teacher": "model", "members": "model", "student": "model", "assistants": "model"}
GROUP_OF |= {"teacher_loss": "loss", "baseline_loss": "loss"}
"""Nodes whose code is of another group's kind; all others are of the group of their own name."""
_LIBRARIES = ("timm", "torchvision")
"""Options that build any network of a library, by name."""
_OF_A_MODEL = ("config.json", "model.safetensors", "tokenizer.json")
_BESIDE = ("modules.json", "1_Pooling/config.json")
"""Files of a folder that holds a model, and those that it may have too: all that is read of it."""
_OWN_LOSSES, _LOSSES = ("teacher_loss", "baseline_loss"), "kdx.methods.losses."
"""Nodes in which a data set may name a loss that no student is taught by, and the room of these."""
SLOTS_OF_A_LOSS = ("weights", "features")


def component(node: str, spec: Any) -> Component:
    """A described thing, whose code is of the kind that its node holds: what the options of conf/ name, or
    comes from a package that was allowed.

    Any other function of kdx would be called with arguments that a preset chooses.
    """
    if not isinstance(spec, Mapping):
        raise UserError(f"{node} must hold a _target_ and its keys; given: {checks.shown(spec)}")
    _check_target(node, group_of(node), spec.get("_target_"))
    made = _with_folders(node, Component(spec))
    for key, inner in made.spec.items():
        if key == "features" and group_of(node) == "loss":
            for name, term in terms_of(made.spec).items():
                component(f"{node}.{key}.{name}", term)
        elif key in SLOTS_OF_A_LOSS and group_of(node) == "loss":
            component(f"{node}.{key}", inner)
        elif any(True for _ in targets(inner)):
            checks.refuse(
                f"{node}.{key} holds a _target_, and is no slot for one; given: {checks.shown(inner)}"
            )
        elif from_own_package(made.target) and finite_or_null(inner) != inner:
            checks.refuse(
                f"{node}.{key} must be finite, as no file of kdx holds NaN or infinity; given: "
                f"{checks.shown(inner)}"
            )
    return made


def _with_folders(node: str, made: Component) -> Component:
    """The same; of a network that lies in a folder, its content counts, and not where that lies."""
    if group_of(node) != "model":
        return made
    try:
        keys = declared(made.target, "folders", ())
    except UserError:
        return made  # reported where it is built
    sources = {}
    for key in keys:
        folder = model_folder(f"{node}.{key}", made.spec.get(key), _OF_A_MODEL)
        sources[key] = Source(named=[(name, folder / name) for name in (*_OF_A_MODEL, *_BESIDE)])
    return Component(made.spec, sources) if sources else made


def group_of(node: str) -> str:
    """The folder of conf/ that has the options of a node."""
    first, *inner = node.split(".")
    slot = next((name for name in inner if name in SLOTS_OF_A_LOSS), None)
    return slot or GROUP_OF.get(first, first)


def _check_target(node: str, group: str, target: Any) -> None:
    if not isinstance(target, str):
        raise UserError(
            f"{node}._target_ must be the address of its code, such as "
            f"{min(_addresses(group), default='a.b.C')}; given: {checks.shown(target)}"
        )
    if target in _addresses(group) or from_own_package(target):
        return
    if node == "teacher" and target in _addresses(node):  # answers in place of a network
        return
    if node in _OWN_LOSSES and target.startswith(_LOSSES) and target in _addresses("dataset"):
        return
    library = next((name for name in _LIBRARIES if target.startswith(f"{name}.") and group == "model"), None)
    raise UserError(
        f"{node}._target_ '{checks.shown(target, bare=True)}' is not allowed: no option of conf/{group} has "
        + (
            f"it; a network of {library} is {node}={library} {node}.name=NAME"
            if library
            else "it; name your own package on the command line with allow=[package]"
        )
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
