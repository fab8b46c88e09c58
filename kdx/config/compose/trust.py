"""What option files of the user's own may not say, as it decides what code runs and where is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from kdx.config.compose.base import HOW, kept
from kdx.config.options import own, read_option
from kdx.config.words import wrong_in_grid
from kdx.core import checks
from kdx.core.paths import conf_dir
from kdx.store import places

TYPED_ONLY = ("allow", "store", "publish")
_REFERENCE = re.compile(
    r"\$\{[A-Za-z_][\w.]*\}|\$\{oc\.select:[A-Za-z_][\w.]*,null\}"
    r"|\$\{kdx_labelled_share:\$\{loss\.batch\},\$\{loss\.unlabel_ratio\}\}"
)
"""What an option file of the user's own may refer to: keys, and such as may not be there."""


def overreach(chosen: Sequence[str], typed: set[str]) -> list[str]:
    """Errors of option files in --config-dir: what only the command line may say, as it decides what code
    runs and where is written.

    chosen: words that choose options. typed: keys that are set on the command line, which count.
    docs/security.md tells what is trusted.
    """
    said, plainly = _with_and_without(chosen)
    errors = [
        (
            f"an option file in --config-dir sets '{key}' to {checks.shown(said[key])}, which counts from "
            f"the command line only: type {key}=VALUE"
        )
        for key in TYPED_ONLY
        if said[key] != plainly[key] and key not in typed
    ]
    hydra, plain_hydra = said.pop("hydra"), plainly.pop("hydra")
    grid = (hydra.get("sweeper") or {}).pop("params", None) or {}
    (plain_hydra.get("sweeper") or {}).pop("params", None)
    errors += _of_hydra(hydra, plain_hydra)
    for key, values in grid.items():
        errors += wrong_in_grid(str(key), values)
    errors += [
        (
            f"an option file in --config-dir sets '{key}' to {checks.shown(text)}, and may refer to other "
            "keys only: ${KEY}"
        )
        for key, text in texts(said)
        if "${" in _REFERENCE.sub("", text)
    ]
    if said["dataset"].get("download") and "dataset.download" not in typed:
        errors += _downloads(said["dataset"], grid, typed)
    return errors


def _with_and_without(chosen: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what these words compose, what is composed without the user's option files)"""
    found = kept(tuple(chosen), tuple(own))
    how = {name: found.hydra.runtime.choices[name] for name in HOW}
    ours = [
        f"{name}={option}" for name, option in how.items() if (conf_dir() / name / f"{option}.yaml").is_file()
    ]
    said, plainly = (
        OmegaConf.to_container(node, resolve=False) for node in (found, kept(tuple(ours), tuple(own)))
    )
    return said, plainly


def _of_hydra(hydra: dict[str, Any], plain_hydra: dict[str, Any]) -> list[str]:
    for node in (hydra, plain_hydra):  # what tells of this very composition
        for part in ("runtime", "overrides", "searchpath", "job"):
            node[part] = (
                {k: v for k, v in node[part].items() if k in ("chdir", "env_set", "env_copy")}
                if part == "job"
                else None
            )
    return [
        (
            f"an option file in --config-dir sets 'hydra.{key}', which decides what runs and where is "
            "written: on the command line only"
        )
        for key in differing(hydra, plain_hydra)[:1]
    ]


def _downloads(dataset: Mapping[str, Any], grid: Mapping[str, Any], typed: set[str]) -> list[str]:
    """Of a data set that is downloaded to a place that an option file or a grid chooses."""
    errors = [
        "the grid of a preset (hydra.sweeper.params) has a data set downloaded to "
        f"'{checks.shown(str(grid[key]), bare=True)}': say so with {key}=PATH in place of the grid, or "
        "dataset.download=false"
        for key in places.dotted(dataset)
        if key in grid
    ]
    own_nodes = [read_option(file).get("dataset", {}) for file in (conf_dir() / "dataset").glob("*.yaml")]
    known = {"None", *(str(node[key]) for node in own_nodes for key in places.path_keys(node))}
    return errors + [
        "an option file in --config-dir has a data set downloaded to "
        f"'{checks.shown(dataset[key], bare=True)}': say so with dataset.{key}=PATH, or "
        "dataset.download=false"
        for key in places.path_keys(dataset)
        if str(dataset[key]) not in known and f"dataset.{key}" not in typed
    ]


def differing(one: Any, other: Any, path: str = "") -> list[str]:
    """Dotted keys whose values differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return [
            key
            for name in {**one, **other}
            for key in differing(one.get(name), other.get(name), f"{path}.{name}".lstrip("."))
        ]
    return [] if one == other else [path]


def texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, text) of every text in plain values."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from texts(inner, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner, path)
    elif isinstance(value, str):
        yield path, value
