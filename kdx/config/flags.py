"""The flags of a command line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from kdx.core.errors import UserError, closest, nearest

FLAGS = (
    "--help",
    "--hydra-help",
    "--version",
    "--cfg",
    "--resolve",
    "--package",
    "--run",
    "--multirun",
    "--info",
    "--config-dir",
    "--config",
)
ONE_OF = ("--cfg", "--run", "--multirun", "--info")
"""Flags that each say what is to be done."""
_SHORT = {
    "-h": "--help",
    "-c": "--cfg",
    "-p": "--package",
    "-r": "--run",
    "-m": "--multirun",
    "-i": "--info",
    "-sc": "--shell-completion",
    "-cd": "--config-dir",
}
TAKES = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--package": (),
    "--config-dir": (),
    "--config": (),
}
"""Flags with a value, and what it may be (empty: anything)."""


def apart(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(flags as `--name` or `--name=value`, the other words). Flags may stand anywhere; one that is unknown
    or lacks its value is a UserError.
    """
    flags, rest, todo = [], [], list(argv)
    while todo:
        word = todo.pop(0)
        if not word.startswith("-"):
            rest.append(word)
            continue
        name, given, value = word.partition("=")
        name = _SHORT.get(name, name)
        if name == "--shell-completion":
            raise UserError('the shell completes kdx by its own command: eval "$(kdx completion bash)"')
        if name not in FLAGS:
            raise UserError(f"unknown flag '{word}'{_instead(name, value if given else None, todo)}")
        if name in TAKES:
            flags.append(f"{name}={_value(name, value if given else None, todo)}")
        elif given:
            raise UserError(f"the flag {name} takes no value; given: '{word}'")
        else:
            flags.append(name)
    shows = [flag for flag in flags if flag.partition("=")[0] in ONE_OF]
    if len(shows) > 1:
        raise UserError(
            f"one of the flags {', '.join(ONE_OF)} at a time; given: {' '.join(dict.fromkeys(shows))}"
        )
    if shows and shows[0].startswith("--cfg") and any(f.startswith("--config=") for f in flags):
        raise UserError("what --config FILE stands for is shown by kdx config --config FILE, not by --cfg")
    if "--resolve" in flags and not any(f.startswith("--cfg") for f in flags):
        raise UserError("the flag --resolve goes with --cfg: kdx train --cfg job --resolve")
    return flags, rest


def _value(flag: str, value: str | None, todo: list[str]) -> str:
    options = TAKES[flag]
    if value is None:
        follows = bool(todo) and not todo[0].startswith("-") and "=" not in todo[0]
        if not follows and flag == "--info":
            return "all"
        value = todo.pop(0) if follows else ""
    if flag == "--cfg" and value.lower().endswith((".yaml", ".yml")):
        raise UserError(
            f"the flag --cfg (-c) shows settings and takes no file: write --config {shlex.quote(value)}"
        )
    if not value or (options and value not in options):
        raise UserError(
            f"the flag {flag} needs one of: {', '.join(options)}"
            if options
            else f"the flag {flag} needs a value"
        )
    return value


def _instead(name: str, value: str | None, todo: Sequence[str]) -> str:
    """What to type in place of a flag that is not there: one like it, or the setting of that name, as other
    tools have flags for settings.
    """
    if near := closest(name, FLAGS, 0.75):
        return nearest(name, [near])
    if value is None and todo and not todo[0].startswith("-") and "=" not in todo[0]:
        value = todo[0]
    meant = _setting_meant(name.lstrip("-").replace("-", "_"), value)
    return f"; settings are written key=value: {meant or 'seed=1, say'}"


def _setting_meant(key: str, value: str | None) -> str:
    """What to type in place of a flag of another tool, `student_train.epochs=5 or teacher_pretrain.epochs=5`;
    empty where there is nothing like it.
    """
    from kdx.config.compose.base import composed  # only where a flag is wrong: it is slow
    from kdx.config.keys import meant_clause
    from kdx.config.options import groups

    known = composed([])
    if key in groups() or (key in known and not isinstance(known[key], Mapping)):
        return f"{key}={'VALUE' if value is None else value}"
    return meant_clause(known, key, value).removeprefix("; did you mean ").removesuffix("?").lstrip(";: ")
