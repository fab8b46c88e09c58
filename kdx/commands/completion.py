"""Print the shell's completion script, of bash, zsh or fish: eval "$(kdx completion bash)"."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from kdx.commands import commands
from kdx.commands.list import defaults, load_option, option_groups, options, options_in_defaults
from kdx.core import output
from kdx.core.errors import UserError, nearest
from kdx.core.paths import conf_dir

HELP = """kdx completion bash | zsh | fish
print a script that completes commands, config groups, options, keys and run folders

Put this line in ~/.bashrc:   eval "$(kdx completion bash)"
in ~/.zshrc, after compinit:  eval "$(kdx completion zsh)"
in ~/.config/fish/config.fish:  kdx completion fish | source"""

# The words come from the kdx that is being typed, so that each clone answers from its own conf/. KDX_NO_SETUP
# keeps ./scripts/kdx from building an environment because somebody pressed TAB. Bash splits words at the
# characters of COMP_WORDBREAKS (`=` is one), so the whole line is handed over. A reply that needs no more
# ends in a space.
BASH = r"""_kdx() {
    local word
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("$word")
    done < <(KDX_NO_SETUP=1 KDX_WORDBREAKS="$COMP_WORDBREAKS" "${1/#\~/$HOME}" completion words "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
complete -o nospace -o default -F _kdx kdx"""  # noqa: E501

# zsh and fish replace whole words, and say by themselves what is quoted.
ZSH = r"""_kdx() {
    local reply
    local -a whole open
    for reply in "${(@f)$(KDX_NO_SETUP=1 KDX_WORDBREAKS= "${words[1]/#\~/$HOME}" completion words "${(j: :)words[1,CURRENT-1]} ${(Q)PREFIX}" 2>/dev/null)}"; do
        if [[ $reply == *' ' ]]; then whole+=("${reply% }"); elif [[ -n $reply ]]; then open+=("$reply"); fi
    done
    (( $#whole )) && compadd -- "${whole[@]}"
    (( $#open )) && compadd -S '' -- "${open[@]}"
    (( $#whole + $#open )) || _files
}
compdef _kdx kdx"""  # noqa: E501
FISH = r"""function __kdx_words
    set -l kdx (string replace -r '^~' $HOME (commandline -opc)[1])
    set -l line (commandline -cp | string collect)
    set -l found (env KDX_NO_SETUP=1 KDX_WORDBREAKS= $kdx completion words "$line" 2>/dev/null)
    if test (count $found) -gt 0
        string trim --right $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c kdx -f -a '(__kdx_words)'"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}

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
    "rerun": ["to", "store"],
    "reproduce": ["seeds", "first_seed", "store"],
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


_OF_RUNS = ("compare", "board", "evaluate", "export", "rerun", "config", "predict")
"""Commands that take run folders; `compare` and `board` those of sweeps too."""
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
    elif command in _OF_RUNS and "=" not in last and (folders := _run_folders(last, command in _OF_RUNS[:2])):
        found = folders
    elif command in ("compare", "predict") and not last:
        found = []  # folders
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
