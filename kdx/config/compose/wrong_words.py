"""Why one word of a run is refused, whatever the others say."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override

from kdx.config.compose.base import composed
from kdx.config.compose.parsing import BY_NUMBER, OWN_PARTS
from kdx.config.meant import either, words_meant
from kdx.config.options import SLOTS, folders, groups
from kdx.core import checks

PLUGINS = {
    ("launcher", "joblib"): "joblib_launcher",
    ("launcher", "slurm"): "submitit_launcher",
    ("launcher", "submitit_local"): "submitit_launcher",
    ("launcher", "ray"): "ray_launcher",
    ("sweeper", "optuna"): "optuna_sweeper",
}
"""What each of their options needs beside Hydra: hydra_plugins.hydra_NAME; the extra of kdx is the first word
of it.
"""


def wrong_own_part(path: Sequence[str]) -> list[str]:
    """What is wrong with the key of a part of the user's own."""
    if path[0] not in OWN_PARTS or len(path) == 3:
        return []
    noun = path[0].removesuffix("s")
    return [f"'{'.'.join(path)}' is no key: a {noun} has a name and keys, such as {OWN_PARTS[path[0]]}"]


def wrong_number(path: Sequence[str]) -> list[str]:
    """What is wrong with the key of a part with a number. Which it may have is known when all is composed."""
    if len(path) > 2:
        return []
    noun = path[0].removesuffix("s")
    return [f"'{'.'.join(path)}' is no key: a {noun} has a number and keys, such as {BY_NUMBER[path[0]]}"]


def not_installed(group: str, option: Any) -> list[str]:
    plugin = PLUGINS.get((group, option)) if isinstance(option, str) else None
    if plugin is None or importlib.util.find_spec(f"hydra_plugins.hydra_{plugin}") is not None:
        return []
    return [
        (
            f"{group}={option} needs Hydra's plugin, which is not installed: pip install "
            f"'kdx[{plugin.partition('_')[0]}]'"
        )
    ]


def not_ours(override: Override) -> list[str]:
    """Ways of writing that Hydra has and kdx has no use for."""
    key = override.key_or_group
    if override.is_delete():
        return [f"'~{key}' would take away what every run needs: give it another value with {key}=VALUE"]
    if SLOTS.get(override.package) == key:
        return []
    if key in SLOTS.values():
        if meant := words_meant({}, key, override.value()):
            return [f"'{key}' is the group of a slot; did you mean {either(meant)}?"]
        slot = next(slot for slot, group in SLOTS.items() if group == key)
        return [f"'{key}' is the group of a slot: write {slot}=OPTION"]
    if key in folders() and key not in groups():
        meant = words_meant({}, key, override.value())
        one_of = f": write {either(meant)}" if meant else f"; one of: {', '.join(groups())}"
        return [f"'{key}' is no group to choose from{one_of}"]
    if override.package is not None:
        return [
            (
                f"'{checks.shown(override.input_line or key, bare=True)}' places an option elsewhere, and "
                f"each has its place: write {key}=OPTION"
            )
        ]
    return []


def why_unfit(word: str, chosen: Sequence[str]) -> str:
    """Why a word whose key exists cannot be set: it lies inside something taken from elsewhere, or refers to
    what is not there.
    """
    path, _, value = word.partition("=")
    node: Any = composed(chosen, resolve=False)
    for depth, name in enumerate(path.split(".")):
        if isinstance(node, str) and node.startswith("${"):
            here, there = ".".join(path.split(".")[:depth]), node.strip("${}")
            return (
                f"'{here}' is taken from '{there}': set {there}.{'.'.join(path.split('.')[depth:])}, or all "
                f"of {here}"
            )
        node = node.get(name) if isinstance(node, Mapping) else None
    if "${" in value:
        return f"'{word}' refers to a key or an environment variable that is not there"
    return f"'{word}' does not fit what stands there: {checks.shown(node)}"
