"""The words of a command line, apart from Hydra: flags, paths that may hold any character, options and keys that are not there."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kdx.checks import shown
from kdx.faults import Fault, nearest
from kdx.locate import conf_dir

FLAGS = ("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun", "--info", "--shell-completion",
         "--config-dir")
SHORT = {"-h": "--help", "-c": "--cfg", "-p": "--package", "-r": "--run", "-m": "--multirun", "-i": "--info",
         "-sc": "--shell-completion", "-cd": "--config-dir"}
TAKES = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--package": (),
    "--config-dir": (),
}
"""Flags with a value, and what it may be (empty: anything)."""
PATHS = re.compile(r"^(?P<key>\+{0,2}(?:\w+\.)*(?:root|\w+_root|checkpoint|store|hydra\.run\.dir|hydra\.sweep\.dir))=(?P<value>.+)$", re.S)
PLAIN = re.compile(r"^[A-Za-z_./-][\w./+-]*$", re.A)
QUOTED = re.compile(r"^(?P<quote>['\"]).*(?P=quote)$", re.S)
PATH = re.compile(r"(?:^|,)\s*(?P<path>(?:'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\")\s*(?=,|$)|[^,]*)", re.S)
"""One of several paths between commas: in quotes, or up to the next comma."""
FUNCTION = re.compile(r"^(?P<name>choice|range|interval|glob|shuffle|sort|tag|str)\((?P<values>.*)\)$", re.S)
NOT_TEXT = ("null", "true", "false", "nan", "inf")
SLOTS = {"loss.weights": "weights", "loss.features": "features"}
"""Parts of a loss that are chosen by name, and the groups that they are chosen from."""
SEVERAL = ("augment", "shift")
"""The groups of which several options are combined."""


def apart(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(flags as `--name` or `--name=value`, the other words). Flags may stand anywhere; one that is unknown or lacks its value is a Fault."""
    flags, rest, todo = [], [], list(argv)
    while todo:
        word = todo.pop(0)
        if not word.startswith("-"):
            rest.append(word)
            continue
        name, given, value = word.partition("=")
        name = SHORT.get(name, name)
        if name not in FLAGS:
            raise Fault(f"unknown flag '{word}'{nearest(name, FLAGS)}")
        if name in TAKES:
            flags.append(f"{name}={_value(name, value if given else None, todo)}")
        elif given:
            raise Fault(f"the flag {name} takes no value; given: '{word}'")
        else:
            flags.append(name)
    if "--resolve" in flags and not any(f.startswith("--cfg") for f in flags):
        raise Fault("the flag --resolve goes with --cfg: kdx train --cfg job --resolve")
    return flags, rest


def _value(flag: str, value: str | None, todo: list[str]) -> str:
    options = TAKES[flag]
    if value is None:
        follows = bool(todo) and not todo[0].startswith("-") and "=" not in todo[0]
        if not follows and flag == "--info":
            return "all"
        value = todo.pop(0) if follows else ""
    if not value or (options and value not in options):
        raise Fault(f"the flag {flag} needs one of: {', '.join(options)}" if options else f"the flag {flag} needs a value")
    return value


def quote_paths(words: Sequence[str], sweep: bool = False) -> list[str]:
    """Paths may hold `=`, commas, spaces and the like, which mean something to Hydra: their values are quoted.

    sweep: a comma stands between paths, as between other values, where it is not in quotes, and choice(...) and the like mean what they mean.
    """
    return [_quoted(w, sweep) for w in words]


def quoted(path: str) -> str:
    """A path as a value for Hydra."""
    return _quoted(f"store={path}", False).partition("=")[2]


def _quoted(word: str, sweep: bool) -> str:
    match = PATHS.match(word)
    if not match:
        return word
    key, value = match["key"], match["value"]
    if not sweep or key.lstrip("+").startswith("hydra."):  # a folder of Hydra's is one
        return f"{key}={_as_text(value)}"
    if function := FUNCTION.match(value):
        if function["name"] != "choice":
            return word
        value = function["values"]
    return f"{key}={','.join(map(_as_text, _apart(value)))}"


def _apart(values: str) -> list[str]:
    """The paths between the commas that stand in no quotes."""
    return [found["path"].strip() for found in PATH.finditer(values)] if values else [values]


def _as_text(value: str) -> str:
    if value == "null" or QUOTED.match(value) or (PLAIN.match(value) and value.lower() not in NOT_TEXT):
        return value
    # In Hydra's quoted strings a backslash stands for itself, but before a quote, where it is doubled.
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value) + "'"


@functools.cache
def groups() -> list[str]:
    """The groups that a user chooses from; conf/model is chosen by way of teacher and student."""
    defaults = yaml.safe_load((conf_dir() / "train.yaml").read_text(encoding="utf-8"))["defaults"]
    return [name for entry in defaults if isinstance(entry, dict) for name in entry]


own: list[Path] = []
"""The user's folder of further options, laid out like conf/ (--config-dir); at most one."""


def use_own(flags: Sequence[str]) -> None:
    """Takes note of --config-dir."""
    own[:] = [Path(f.partition("=")[2]).expanduser().absolute() for f in flags if f.startswith("--config-dir=")][-1:]
    for folder in own:
        if not folder.is_dir():
            raise Fault(f"--config-dir={folder} is no folder: it should hold options laid out like conf/, such as loss/mine.yaml")


def options_of(group: str) -> list[str]:
    folders = [place / group for place in (conf_dir(), *own)]
    return [p.relative_to(folder).with_suffix("").as_posix() for folder in folders for p in folder.rglob("*.yaml")]


def wrong_option(group: str, value: Any) -> list[str]:
    several = isinstance(value, list) and group in SEVERAL
    options = options_of(group)
    wrong = [v for v in (value if several else [value]) if not isinstance(v, str | int | float) or str(v) not in options]
    return [f"{group} has no option '{shown(w, bare=True)}'{nearest(str(w), options)}" for w in wrong]


def wrong_key(known: Mapping[str, Any], path: Sequence[str], value: Any) -> list[str]:
    """Faults of one override: a key that is not there, or another kind of thing than what stands there."""
    node: Any = {k: v for k, v in known.items() if k != "choices"}
    for depth, name in enumerate(path):
        if not isinstance(node, Mapping) or name not in node:
            return [_no_key(node, path, depth, known["choices"])]
        node = node[name]
    key = ".".join(path)
    if path[-1] == "augment":
        return []  # names of files or a mapping: kdx.wiring looks at it
    if isinstance(node, Mapping) and isinstance(value, Mapping):
        return [fault for inner, v in value.items() for fault in wrong_key(known, [*path, str(inner)], v)]
    if isinstance(node, Mapping):
        keys = [k for k in node if not k.startswith("_")]
        return [f"'{key}' holds several keys ({', '.join(keys)}): set one of them" + (f", such as {key}.{keys[0]}=VALUE" if keys else "")]
    if isinstance(value, Mapping):
        return [f"'{key}' holds one value, not keys of its own: write {key}=VALUE"]
    return []


def _no_key(node: Any, path: Sequence[str], depth: int, choices: Mapping[str, Any]) -> str:
    where, asked = ".".join(path[:depth]), ".".join(path[: depth + 1])
    if not isinstance(node, Mapping):
        return f"'{asked}' is no key: '{where}' holds one value"
    siblings = {".".join([*path[:depth], k]) for k in node if not k.startswith("_")}
    siblings |= set(groups()) if depth == 0 else set()
    inside = f" of {where}={shown(choices[where], bare=True)}" if where in choices else f" in '{where}'" if where else ""
    return f"'{asked}' is no key{inside}{nearest(asked, siblings) if siblings else ', which has none'}"
