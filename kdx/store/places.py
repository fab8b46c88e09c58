"""Which keys of a data set say where its files lie, and not what they hold: the one place that knows.

A loader declares them as a class attribute, `paths = ("csv",)`; of one that declares none they are `root`
and what ends with `_root`. A run.json keeps them (`protocol.paths`), as who reads it may lack the loader.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kdx.core.errors import UserError
from kdx.store.declared import declared

USUAL = r"(?:\w+_)?root"
"""The names of paths where a loader declares none."""


def path_keys(dataset: Mapping[str, Any]) -> list[str]:
    """Those of a data set's node, in its order."""
    try:
        reported = declared(dataset["_target_"], "paths")
    except (UserError, LookupError, TypeError, AttributeError):  # refused, with its reason, where it is built
        reported = None
    return [key for key in dataset if (re.fullmatch(USUAL, key) if reported is None else key in reported)]


def dotted(dataset: Mapping[str, Any]) -> list[str]:
    """The same as one types them: dataset.root."""
    return [f"dataset.{key}" for key in path_keys(dataset)]


def recorded(config: Any, protocol: Any = None) -> frozenset[str]:
    """The same of the `config` and `protocol` of a run.json, whoever wrote it: what is no text is no path."""
    dataset = config.get("dataset") if isinstance(config, Mapping) else None
    reported = protocol.get("paths") if isinstance(protocol, Mapping) else None
    values = dataset.items() if isinstance(dataset, Mapping) else ()
    texts = {key for key, value in values if isinstance(value, str | None)}
    if isinstance(reported, list):
        return frozenset(f"dataset.{key}" for key in texts if f"dataset.{key}" in reported)
    return frozenset(f"dataset.{key}" for key in texts if re.fullmatch(USUAL, str(key)))
