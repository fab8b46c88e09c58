"""Print the shell's completion script, of bash, zsh or fish: eval "$(kdx completion bash)"."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from kdx.commands import commands
from kdx.commands._option_keys import keys
from kdx.commands._shells import SCRIPTS
from kdx.commands.list import defaults, load_option, option_groups, options
from kdx.core import output
from kdx.core.errors import UserError, nearest
from kdx.core.paths import conf_dir

HELP = """kdx completion bash | zsh | fish
print a script that completes commands, config groups, options, keys and run folders

Put this line in ~/.bashrc:   eval "$(kdx completion bash)"
in ~/.zshrc, after compinit:  eval "$(kdx completion zsh)"
in ~/.config/fish/config.fish:  kdx completion fish | source"""


_WORDS = {
    "cache": ["ls", "verify", "gc"],
    "completion": [*SCRIPTS],
    "new": ["dataset", "torch_dataset", "model", "loss", "augment", "transform", "select", "metric"],
}
"""Commands whose words are few and fixed. `train`, `plan` and `evaluate` take overrides; where nothing fits,
bash offers file names.
"""
KEYED = {
    "board": ["port"],
    "compare": ["where", "reference", "metric", "sort", "csv", "json", "md", "classes", "html"],
    "predict": [
        "data",
        "to",
        "role",
        "which",
        "top",
        "soft",
        "text",
        "batch_size",
        "overwrite",
        "model",
        "key",
        "json",
        "store",
    ],
    "publish": [
        "to",
        "project",
        "name",
        "again",
        "dry",
        "weights",
        "examples",
        "out",
        "private",
        "license",
        "data_license",
        "format",
        "store",
        "allow",
    ],
    "rerun": ["to", "store"],
    "reproduce": ["seeds", "first_seed", "store", "dataset.root"],
    "halfspace": [
        "dimension",
        "margin",
        "noise",
        "stretch",
        "rows",
        "steps",
        "test_rows",
        "seeds",
        "first_seed",
        "json",
    ],
}
"""Commands with keys of their own; `reproduce` takes names of claims as well, `compare` and `board` folders.
A test holds them to the commands' OPTIONS.
"""


def overrides(conf: Path, words: Sequence[str], last: str) -> list[str]:
    """What `last`, the override being typed, may become: `lo` -> `loss=`, `loss=k` -> `loss=kd `, `seed.` ->
    nothing.
    """
    sign = last[: len(last) - len(last.lstrip("+~"))]
    name, is_override, value = last[len(sign) :].partition("=")
    choices = option_groups(conf)
    if is_override:
        # The part that is being typed, in a list or in a sweep, begins behind the last comma or bracket.
        head = value[: max(value.rfind(","), value.rfind("[")) + 1]
        names = options(conf, name) if name in choices else values(keys(conf, words), name.split("."))
        return [f"{sign}{name}={head}{option}" + ("" if "[" in head else " ") for option in names]
    parents = name.split(".")[:-1]
    if not parents:
        # `+` adds what the defaults list does not have; without a readable defaults list every group is
        # offered.
        known = set(defaults(conf))
        chosen = set(choices) - known if "+" in sign else known or set(choices)
        body = {key: value for key, value in load_option(conf / "train.yaml").items() if key != "defaults"}
        return [*(f"{sign}{group}=" for group in sorted(chosen)), *(spell(sign, [], body, skip=choices))]
    node = keys(conf, words)
    for part in parents:
        node = node.get(part)
        if not isinstance(node, dict):
            return []
    return spell(sign, parents, node)


def spell(sign: str, parents: Sequence[str], node: Mapping, skip: Sequence[str] = ()) -> list[str]:
    """Keys of one node: `epochs=` for a value, `optimiser.` for a node that has keys of its own."""
    stem = sign + "".join(f"{part}." for part in parents)
    names = [name for name in node if not str(name).startswith("_") and name not in skip]
    return [
        f"{stem}{name}{'.' if isinstance(node[name], dict) and node[name] else '='}"
        for name in sorted(names, key=str)
    ]


def values(node: object, path: Sequence[str]) -> list[str]:
    """What a key may be set to, where that is known: true and false for a switch."""
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    return ["false", "true"] if isinstance(node, bool) else []


_OF_RUNS = ("compare", "board", "publish", "evaluate", "export", "rerun", "config", "predict")
"""Commands that take run folders; the first three those of sweeps too."""
_MOST_FOLDERS = 500


def _run_folders(last: str, sweeps: bool) -> list[str]:
    """Folders of runs where kdx train puts them, that begin with `last`."""
    if last and not ("outputs/".startswith(last) or last.startswith("outputs/")):
        return []
    levels = ["runs/*", "reruns/*", "sweeps/*/*"]
    found = [path.parent for level in levels for path in Path("outputs").glob(f"{level}/run.json")]
    if sweeps:
        found += [path.parent for path in Path("outputs/sweeps").glob("*/sweep.json")]
    return [f"{path.as_posix()} " for path in sorted(found, reverse=True)[:_MOST_FOLDERS]]


def _flags(command: str | None) -> list[str]:
    if command is None:
        return ["--help ", "--version "]
    more = ["--config ", "--config-dir "] if command in ("train", "plan", "config") else []
    return ["--help ", "--json ", *more, *(["--multirun "] if command in ("train", "plan") else [])]


def complete(conf: Path, known: Sequence[str], line: str, breaks: str) -> list[str]:
    """Replies to `line`, the command line up to the cursor: whole words, less what bash itself keeps (up to a
    word break).
    """
    words = line.split()[1:]
    last = words.pop() if words and not line[-1].isspace() else ""
    command = next((word for word in words if word in known), None)
    if last.startswith("-"):
        found = _flags(command)
    elif words and words[-1] in ("--config", "--config-dir"):
        found = []  # files
    elif command is None:
        found = [f"{name} " for name in known] if all(word.startswith("-") for word in words) else []
    elif command == "list":
        found = [f"{group} " for group in option_groups(conf)]
    elif command in _OF_RUNS and "=" not in last and (folders := _run_folders(last, command in _OF_RUNS[:3])):
        found = folders
    elif command in ("compare", "predict") and not last:
        found = []  # folders
    elif command in KEYED and "=" in last:
        found = []  # files, where the value is one
    elif command in KEYED:
        claims = options(conf, "claim") if command == "reproduce" else []
        found = [*(f"{name} " for name in claims), *(f"{key}=" for key in KEYED[command])]
    elif command in _WORDS:
        found = [f"{word} " for word in _WORDS[command]]
    elif command in ("train", "plan", "config") or (command == "evaluate" and last):
        found = overrides(conf, words, last)
    else:
        found = []
    kept = max((last.rfind(mark) for mark in breaks), default=-1) + 1
    return [reply[kept:] for reply in found if reply.startswith(last)]


def main(argv: Sequence[str]) -> int:
    match list(argv):
        case [("bash" | "zsh" | "fish") as shell]:
            if output.wants_document():
                output.answer({"shell": shell, "script": SCRIPTS[shell]})
            else:
                print(SCRIPTS[shell])
        case ["words", line]:
            found = complete(conf_dir(), commands(), line, os.environ.get("KDX_WORDBREAKS", "=:"))
            if output.wants_document():
                output.answer({"words": found})
            else:
                print("\n".join(found), end="\n" if found else "")
        case _ if {"-h", "--help"} & set(argv):
            print(HELP)
        case []:
            raise UserError('kdx completion needs a shell: eval "$(kdx completion bash)"')
        case [shell, *_]:
            raise UserError(
                f"kdx completion knows {', '.join(SCRIPTS)}, not '{shell}'{nearest(shell, SCRIPTS)}"
            )
    return 0
