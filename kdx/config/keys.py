"""Keys that are not there, and what option files compose that lacks some or has others."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kdx.config.meant import close_key, either, said_of, words_meant
from kdx.config.options import LAYERS, groups, option_file, options_of, read_option
from kdx.core.checks import shown
from kdx.core.errors import UserError, in_short, nearest, together
from kdx.core.paths import conf_dir
from kdx.training.length import SIZES, STAGES

PRESETS = ("experiment", "launcher", "sweeper")
"""Groups whose options set keys of the whole run: nothing reads what lies under their own names."""
SHAPED = ("teacher", "student", "dataset", "device", "shift", *STAGES)
"""Nodes that hold keys of their own."""
HOLDING = ("loss", "dataset", "student", "teacher", "select", "made_up", "init", "aggregate")
"""Groups whose options have keys that others lack."""


def wrong_shape(content: Mapping[str, Any]) -> str | None:
    """What is wrong with an option file that sets what holds keys to one value; None: nothing."""
    found = (name for name in SHAPED if name in content and not isinstance(content[name], Mapping))
    return next((_no_keys(name, content[name]) for name in found), None)


def _no_keys(name: str, node: Any) -> str:
    return f"an option file in --config-dir sets '{name}' to {shown(node)}, and it holds keys of its own"


def is_left_out(name: str, node: Any) -> bool:
    """Whether a part of the configuration is not there; of the loss the layers of its terms always are."""
    return node is None or (name == "loss" and isinstance(node, Mapping) and set(node) <= {LAYERS})


def misshapen(config: Mapping[str, Any]) -> list[str]:
    """Errors in the shape of what option files of the user's own compose: a key that is not there, one that
    lacks, one value in place of keys, or keys that lie where nothing reads them."""
    template = read_option(conf_dir() / "train.yaml")
    known = {*template, *groups(), "choices"} - {"defaults", "hydra"}
    errors = [
        (
            f"an option file in --config-dir sets '{shown(key, bare=True)}', which is no "
            f"key{nearest(str(key), known)}"
        )
        for key in config
        if key not in known
    ]
    errors += [
        f"an option file in --config-dir sets '{name}' to {shown(config[name])}, which nothing reads: let "
        "its first line be '# @package _global_', and its keys are those of the run"
        for name in PRESETS
        if config.get(name)
    ]
    errors += [
        (
            f"an option file in --config-dir leaves out '{name}', which every run reads; a line '# @package' "
            "puts the keys of a file elsewhere"
        )
        for name in [*template, *groups()]
        if name not in ("defaults", "hydra", *PRESETS, *SHAPED, *config)
        or (name == "loss" and is_left_out(name, config.get(name)))
    ]
    template["device"] = read_option(conf_dir() / "device" / "auto.yaml")
    for name in SHAPED:
        node = config.get(name)
        if not isinstance(node, Mapping):
            errors.append(_no_keys(name, node))
            continue
        wanted = SIZES if name == "dataset" else template[name] if name in ("device", *STAGES) else ()
        errors += [
            f"an option file in --config-dir leaves out '{name}.{key}', which every run reads"
            for key in wanted
            if key not in node
        ]
        if name in ("device", *STAGES):
            errors += [
                _no_key(template[name], [name, str(key)], 1, config["choices"])
                for key in node
                if key not in template[name]
            ]
    return errors


def wrong_key(
    known: Mapping[str, Any], path: Sequence[str], value: Any, without: Collection[str] = ()
) -> list[str]:
    """Errors of one override: a key that is not there, or another kind of thing than what stands there.
    without: keys of a run that are not offered."""
    node: Any = {k: v for k, v in known.items() if k != "choices"}
    for depth, name in enumerate(path):
        if not isinstance(node, Mapping) or name not in node:
            meant = meant_clause(known, ".".join(path), value)
            return [_no_key(node, path, depth, known["choices"], meant, without)]
        node = node[name]
    key = ".".join(path)
    if path[-1] == "augment":
        return []  # names of files or a mapping: kdx.config.wire looks at it
    if isinstance(node, Mapping) and isinstance(value, Mapping):
        return in_short(
            [error for inner, v in value.items() for error in wrong_key(known, [*path, str(inner)], v)], key
        )
    if isinstance(node, Mapping):
        keys = [k for k in node if not k.startswith("_")]
        return [
            f"'{key}' holds several keys ({', '.join(keys)}): set one of them"
            + (f", such as {key}.{keys[0]}=VALUE" if keys else "")
        ]
    if isinstance(value, Mapping):
        return [f"'{key}' holds one value, not keys of its own: write {key}=VALUE"]
    return []


def meant_clause(known: Mapping[str, Any], asked: str, value: Any) -> str:
    """A clause with the words that a key which is not there may have meant: those of the run, or an option
    that has it; empty where there are none."""
    if said := said_of(asked, value):
        return f": {said}"
    if clause := _of_another_pool(known, asked):
        return clause
    if found := words_meant(known, asked, value):
        return f"; did you mean {either(found)}?"
    group, _, name = asked.rpartition(".")
    if asked in options_of("loss"):
        return f"; did you mean loss={asked}?"
    having = [
        (g, option)
        for g in HOLDING
        if group in ("", g)
        for option in options_of(g)
        if name in keys_of(g, option)
    ]
    if not having or not name:
        return _misspelled(known, asked, value)
    group = having[0][0]
    options = sorted(f"{group}={option}" for g, option in having if g == group)
    return f"; {group}.{name} is a key of {either(options)}"


def _of_another_pool(known: Mapping[str, Any], asked: str) -> str:
    """The clause of a key that other pools have, and not this one; empty where none has it."""
    group, _, name = asked.partition(".")
    having = (
        [option for option in options_of(group) if name in keys_of(group, option)] if group == "pool" else []
    )
    if not having:
        return ""
    here = known["choices"].get(group)
    own = sorted(keys_of(group, here)) if isinstance(here, str) else []
    which = "another data set" if len(having) > 2 else together([f"pool={option}" for option in having])
    such = f", such as pool={'digits' if 'digits' in having else having[0]}" if len(having) > 2 else ""
    has = f", which has {together(own)}" if own else ""
    return f"{has}: {asked} is a key of {'a pool that is ' if such else ''}{which}{such}"


def _misspelled(known: Mapping[str, Any], asked: str, value: Any) -> str:
    """The clause of a key that is spelled like one which lies elsewhere; empty where one beside it is closer,
    which the caller names."""
    node: Any = known
    for part in asked.split(".")[:-1]:
        node = node.get(part) if isinstance(node, Mapping) else None
    beside = [*(node if isinstance(node, Mapping) else ()), *([] if "." in asked else groups())]
    if "did you mean" in nearest(asked.rpartition(".")[2], map(str, beside)):
        return ""
    close = close_key(known, asked)
    found = words_meant(known, ".".join([*asked.split(".")[:-1], close]), value) if close else []
    return f"; did you mean {either(found)}?" if found else ""


def keys_of(group: str, option: str) -> set[str]:
    """The keys that an option sets of its own group, of a role those of its network; none of one that cannot
    be read."""
    if group in ("student", "teacher"):
        return keys_of("model", option)
    file = option_file(group, option)
    with contextlib.suppress(UserError):
        node = read_option(file) if file else None
        inside = node.get(group, node) if isinstance(node, dict) else {}
        return {str(key) for key in inside} - {"defaults", "_target_"} if isinstance(inside, dict) else set()
    return set()


def _no_key(
    node: Any,
    path: Sequence[str],
    depth: int,
    choices: Mapping[str, Any],
    meant: str = "",
    without: Collection[str] = (),
) -> str:
    """meant: a clause that says what to type."""
    where, asked = ".".join(path[:depth]), ".".join(path[: depth + 1])
    if not isinstance(node, Mapping):
        return f"'{asked}' is no key: '{where}' holds one value"
    names = set(node) if where != "loss" or "features" in node else set(node) - {LAYERS}
    siblings = {".".join([*path[:depth], k]) for k in names if not k.startswith("_")}
    siblings = (siblings | set(groups())) - set(without) if depth == 0 else siblings
    inside = (
        f" of {where}={shown(choices[where], bare=True)}"
        if where in choices
        else f" in '{where}'"
        if where
        else ""
    )
    if not siblings:
        return f"'{asked}' is no key{inside}, which has none{meant}"
    return f"'{asked}' is no key{inside}{meant or nearest(asked, siblings)}"
