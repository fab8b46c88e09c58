"""The keys that some options set, placed as Hydra places them, without Hydra."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from kdx.commands.list import load_option, option_groups, options_in_defaults


def _place(tree: dict, package: Sequence[str], data: Mapping) -> None:
    """Merges `data` into `tree` below the keys of `package`."""
    for key in package:
        child = tree.get(key)
        tree[key] = tree = child if isinstance(child, dict) else {}
    for key, value in data.items():
        if isinstance(value, dict):
            _place(tree, [str(key)], value)
        else:
            tree[str(key)] = value


def _header(path: Path) -> str | None:
    """The package that a file names in its first lines: `# @package _global_`"""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            words = line.split()
            if words[:2] == ["#", "@package"] and len(words) > 2:
                return words[2]
            if words and not words[0].startswith("#"):
                return None
    return None


Load = Callable[[Path], dict]
"""What an option file says: its values, or something else of the same keys."""


def add(
    tree: dict,
    conf: Path,
    group: str,
    option: str,
    package: list[str],
    named: str | None,
    load: Load = load_option,
    depth: int = 0,
) -> None:
    """Places one option's keys in `tree` as Hydra does: below its parent's package and its own, be it named
    or its group's.
    """
    path = conf / group / f"{option}.yaml"
    if depth > 8 or not path.is_file():  # depth: files that name each other in a ring
        return
    named = named or _header(path) or group.replace("/", ".")
    own = [part for part in named.split(".") if part and part != "_here_"]
    if own[:1] == ["_global_"]:
        package, own = [], own[1:]
    own = [part for word in own for part in (group.split("/") if word == "_group_" else [word])]
    for key, chosen in options_in_defaults(load_option(path)).items():
        child, _, at = key.partition("@")
        for name in chosen:
            add(tree, conf, child, name, [*package, *own], at or None, load, depth + 1)
    data = load(path)
    _place(tree, [*package, *own], {key: value for key, value in data.items() if key != "defaults"})


def keys(conf: Path, words: Iterable[str], load: Load = load_option) -> dict:
    """The keys that can be set, nested, for the options which `words` choose and the defaults of the other
    groups, with what `load` says of each.
    """
    body = load_option(conf / "train.yaml")
    chosen = options_in_defaults(body)
    for word in words:
        group, is_override, option = word.lstrip("+").partition("=")
        if is_override and group in option_groups(conf):
            chosen[group] = option.strip("[]").split(",")
    tree: dict = {}
    said = load(conf / "train.yaml")
    _place(tree, [], {key: value for key, value in said.items() if key != "defaults"})
    for key, names in chosen.items():
        group, _, package = key.partition("@")
        for name in names:
            add(tree, conf, group, name, [], package or None, load)
    return tree
