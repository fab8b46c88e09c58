"""`teacher.through=[NAME, NAME]`: data sets that a teacher learns from before the labelled part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdx.config.described import component
from kdx.config.options import read_option
from kdx.core import checks
from kdx.core.errors import UserError, in_short, nearest
from kdx.core.paths import conf_dir
from kdx.store.component import Component
from kdx.store.declared import declared

_OF_POOLS = ("limit", "test", "classes_map")
_MOST = 8
"""More of them are a slip of the pen."""


def read_through(node: str, asked: Any) -> list[tuple[str, Component]]:
    """(name, loader) of each, in order. asked: names; one whose keys are other than its option is a mapping,
    {NAME: {KEY: VALUE}}. Data sets are those of conf/pool."""
    if asked is None:
        return []
    key = f"{node}.through"
    known = {
        file.stem: found
        for file in sorted((conf_dir() / "pool").glob("*.yaml"))
        if isinstance(found := read_option(file), Mapping) and _is_data_set(found)
    }
    listed = [asked] if isinstance(asked, str) else asked if isinstance(asked, list) else []
    pairs = [pair for one in listed if (pair := _with_keys(one)) is not None]
    if not pairs or len(pairs) < len(listed) or len(pairs) > _MOST:
        raise UserError(
            f"{key} must name 1 to {_MOST} data sets, such as {key}=[mnist5k]; given: {checks.shown(asked)}"
        )
    names = [name for name, _ in pairs]
    wrong = [f"{key} has no data set '{name}'{nearest(name, known)}" for name in names if name not in known]
    checks.refuse_all(in_short(wrong, key))
    found = []
    for name, keys in pairs:
        if name in known:
            own = {k: v for k, v in known[name].items() if k not in _OF_POOLS}
            own |= _own_keys(f"{key}.{name}", keys, own)
            found.append((name, component("pool", own)))
    return found


def _with_keys(one: Any) -> tuple[str, Any] | None:
    """A name, or {name: keys}; None of anything else."""
    if isinstance(one, str):
        return one, {}
    if isinstance(one, Mapping) and len(one) == 1:
        name, keys = next(iter(one.items()))
        return str(name), keys
    return None


def _is_data_set(spec: Mapping[str, Any]) -> bool:
    target = spec.get("_target_")
    return isinstance(target, str) and not declared(target, "makes_rows", False)


def _own_keys(key: str, given: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise UserError(
            f"{key} must be keys of that data set, such as root: PATH; given: {checks.shown(given)}"
        )
    for name in given:
        if name not in known or name == "_target_":
            raise UserError(f"{key} has no key '{name}'{nearest(str(name), known)}")
    return dict(given)
