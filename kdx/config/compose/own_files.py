"""Option files of the user's own that cannot be read, or lack what makes them an option: each is named."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kdx.config.keys import is_left_out
from kdx.config.options import SEVERAL, SLOTS, example_address, no_address, own, read_option
from kdx.config.yaml_files import unreadable

_TARGETED = ("loss", "dataset", "select", "made_up", "init", "aggregate", "recipe")
"""Groups whose options name code under their own key."""
_NETWORKS = ("teacher", "student")
_PACKAGE = re.compile(r"^#\s*@package\s+_global_\s*$", re.M)


def broken(error: BaseException) -> str | None:
    """Which option file an error of reading YAML lies in, and its line; None: it is no such error."""
    found: BaseException | None = error
    while found is not None:
        mark = getattr(found, "problem_mark", None)
        if isinstance(found, yaml.MarkedYAMLError) and mark:
            return str(unreadable(Path(mark.name), found))
        if isinstance(found, UnicodeDecodeError | yaml.reader.ReaderError):
            for file in (file for folder in own for file in sorted(folder.rglob("*.yaml"))):
                try:
                    yaml.safe_load(file.read_text(encoding="utf-8"))
                except (UnicodeDecodeError, yaml.YAMLError) as why:
                    return str(unreadable(file, why))
        found = found.__cause__ or found.__context__
    return None


def chosen_files(known: Mapping[str, Any], words: Sequence[str]) -> list[tuple[str, Path]]:
    """(group, file) of the user's own options that a composed configuration is made of. words: those that
    choose options, as of several, and of slots, Hydra keeps no note."""
    pairs = [(group, name) for group, name in known["choices"].items() if isinstance(name, str)]
    for word in words:
        key, _, names = word.partition("=")
        group = key.partition("@")[0]
        if group in SEVERAL or group in SLOTS.values():
            pairs += [(group, name) for name in re.findall(r"[\w/.-]+", names)]
    files = [(group, folder / group / f"{name}.yaml") for folder in own for group, name in pairs]
    return list(dict.fromkeys(pair for pair in files if pair[1].is_file()))


def incomplete(known: Mapping[str, Any], files: Sequence[tuple[str, Path]]) -> list[str]:
    """Errors of own options that name no code. files: `chosen_files`."""
    errors: list[str] = []
    for group, file in files:
        node = known.get(group)
        named = isinstance(node, Mapping) and isinstance(node.get("_target_"), str)
        if group in SEVERAL and group in SLOTS.values():
            errors += _of_terms(file)
        elif group in SEVERAL:
            errors += _of_steps(file)
        elif group in SLOTS.values():
            slot = known["loss"].get(group)
            if not (isinstance(slot, Mapping) and isinstance(slot.get("_target_"), str)):
                errors.append(no_address(file))
        elif group in _TARGETED and not named and not is_left_out(group, node):  # else said of the whole
            errors.append(no_address(file))
        elif group in _NETWORKS and not named:
            errors += _of_network(group, file)
    return errors


def _of_network(group: str, file: Path) -> Iterator[str]:
    text = file.read_text(encoding="utf-8")
    if not _PACKAGE.search(text):
        yield (
            f"'{file}' needs the line '# @package _global_' at its beginning: without it nothing becomes the "
            f"{group}"
        )
        return
    found = re.search(rf"/model@{group}\s*:\s*([\w.-]+)", text)
    model = file.parent.parent / "model" / f"{found[1]}.yaml" if found else file
    where = model if model.is_file() else file
    yield no_address(where)


def _of_terms(file: Path) -> Iterator[str]:
    """One term under its name, or, as before there could be several, alone."""
    content = read_option(file)
    parts = content.values() if isinstance(content, dict) and "_target_" not in content else [content]
    named = [isinstance(part, dict) and isinstance(part.get("_target_"), str) for part in parts]
    if not named or not all(named):
        yield no_address(file)


def _of_steps(file: Path) -> Iterator[str]:
    content = read_option(file)
    if isinstance(content, dict) and "defaults" in content:
        return
    steps = content if isinstance(content, dict) else {"": content}
    if not all(isinstance(step, dict) and isinstance(step.get("_target_"), str) for step in steps.values()):
        yield (
            f"'{file}' must hold a step under its name, and in it a _target_, the address of its code, and "
            f"its keys: {file.stem}: {{{example_address(file)}, ...}}"
        )
