"""The words of a command line, apart from Hydra: flags, paths that may hold any character, options and keys
that are not there.
"""

from __future__ import annotations

import contextlib
import filecmp
import functools
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kdx.core.checks import MOST, shown
from kdx.core.errors import UserError, in_short, nearest
from kdx.core.paths import conf_dir
from kdx.store.places import USUAL, path_keys
from kdx.store.resolve import allow
from kdx.training.length import SIZES, STAGES

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
}
"""Flags with a value, and what it may be (empty: anything)."""
_PATHS = re.compile(
    rf"^(?P<key>\+{{0,2}}(?:\w+\.)*(?:{USUAL}|checkpoint|store|hydra\.run\.dir|hydra\.sweep\.dir))=(?P<value>.+)$",
    re.S,
)
OF_DATA = re.compile(r"^(?P<key>\+{0,2}dataset\.(?P<name>\w+))=(?P<value>.+)$", re.S)
PLAIN = re.compile(r"^[A-Za-z_./-][\w./+-]*$", re.A)
QUOTED = re.compile(r"^(?P<quote>['\"]).*(?P=quote)$", re.S)
PATH = re.compile(r"(?:^|,)\s*(?P<path>(?:'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\")\s*(?=,|$)|[^,]*)", re.S)
"""One of several paths between commas: in quotes, or up to the next comma."""
FUNCTION = re.compile(r"^(?P<name>choice|range|interval|glob|shuffle|sort|tag|str)\((?P<values>.*)\)$", re.S)
NOT_TEXT = ("null", "true", "false", "nan", "inf")
SLOTS = {"loss.weights": "weights", "loss.features": "features"}
"""Parts of a loss that are chosen by name, and the groups that they are chosen from."""
HYDRAS, HYDRAS_BELOW = ("hydra.run.dir", "hydra.sweep.dir"), ("hydra.launcher.", "hydra.sweeper.")
"""What can be set of Hydra's own node."""
GRID_KEY = re.compile(r"[A-Za-z_]\w*(\.\w+)*", re.A)
NOT_IN_GRID = ("allow", "store", "hydra", "launcher", "sweeper", "max_runs", "dataset.download")
DEEPEST_BRACKETS, LONGEST_WORD = 16, 100_000
MOST_VALUES, _LONGEST_TEXT = 1000, 4096
LONG_NUMBER = re.compile(r"(?<![\w/.'\"-])-?\d[\d_]{4095,}")
"""More digits than Python reads; a text is no longer than that either."""
SEVERAL = ("augment", "shift")
"""The groups of which several options are combined."""


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
            raise UserError(f"unknown flag '{word}'{nearest(name, FLAGS)}")
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
    if not value or (options and value not in options):
        raise UserError(
            f"the flag {flag} needs one of: {', '.join(options)}"
            if options
            else f"the flag {flag} needs a value"
        )
    return value


def quote_paths(words: Sequence[str], sweep: bool = False) -> list[str]:
    """Paths may hold `=`, commas, spaces and the like, which mean something to Hydra: their values are
    quoted.

    sweep: a comma stands between paths, as between other values, where it is not in quotes, and choice(...)
    and the like mean what they mean.
    """
    if typed := [w.partition("=")[2] for w in words if w.lstrip("+").startswith("allow=")]:
        allow(re.findall(r"[\w.]+", typed[-1]))
    paths = own_paths()
    return [_quoted(w, sweep, paths) for w in words]


def own_paths() -> frozenset[str]:
    """Keys of the user's own data sets that are paths, as their loaders say."""
    found: set[str] = set()
    for file in (file for folder in own for file in sorted((folder / "dataset").glob("*.yaml"))):
        # one that cannot be read is reported where it is chosen
        with contextlib.suppress(yaml.YAMLError, OSError, ValueError):
            node = yaml.safe_load(file.read_text(encoding="utf-8"))
            found.update(path_keys(node) if isinstance(node, dict) else ())
    return frozenset(found)


def quoted(path: str) -> str:
    """A path as a value for Hydra."""
    return _quoted(f"store={path}", False, ()).partition("=")[2]


def _quoted(word: str, sweep: bool, own_paths: Collection[str]) -> str:
    match = _PATHS.match(word) or ((found := OF_DATA.match(word)) and found["name"] in own_paths and found)
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


@functools.cache
def folders() -> frozenset[str]:
    """Every group of conf/, those too that are chosen in another way."""
    return frozenset(place.name for place in conf_dir().iterdir() if place.is_dir())


own: list[Path] = []
"""The user's folder of further options, laid out like conf/ (--config-dir); at most one."""


def use_own(flags: Sequence[str]) -> None:
    """Takes note of --config-dir."""
    own[:] = [
        Path(f.partition("=")[2]).expanduser().absolute() for f in flags if f.startswith("--config-dir=")
    ][-1:]
    for folder in own:
        if not folder.is_dir():
            raise UserError(
                f"--config-dir={folder} is no folder: it should hold options laid out like "
                "conf/, such as loss/mine.yaml"
            )
        if os.path.lexists(folder / "hydra"):
            raise UserError(
                f"--config-dir={folder}: 'hydra' would hold options of Hydra's own, which count from the "
                "command line only: remove it"
            )
        if hidden := [
            name
            for name in _names()
            if os.path.lexists(folder / name) and not _alike(folder / name, conf_dir() / name)
        ]:
            raise UserError(
                f"--config-dir={folder}: '{hidden[0]}' has the name of a file of kdx's own, which would be "
                "read in its place: give it another name"
            )


@functools.cache
def _names() -> list[str]:
    """Every file of conf/, which no other of that name replaces."""
    return sorted(file.relative_to(conf_dir()).as_posix() for file in conf_dir().rglob("*.yaml"))


def _alike(one: Path, other: Path) -> bool:
    """Whether both are files that hold the same, as those of a copy of conf/ do."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def options_of(group: str) -> list[str]:
    folders = [place / group for place in (conf_dir(), *own)]
    return [
        p.relative_to(folder).with_suffix("").as_posix() for folder in folders for p in folder.rglob("*.yaml")
    ]


PRESETS = ("experiment", "launcher", "sweeper")
"""Groups whose options set keys of the whole run: nothing reads what lies under their own names."""
SHAPED = ("teacher", "student", "dataset", "device", "shift", *STAGES)
"""Nodes that hold keys of their own."""


def misshapen(config: Mapping[str, Any]) -> list[str]:
    """Errors in the shape of what option files of the user's own compose: a key that is not there, one that
    lacks, one value in place of keys, or keys that lie where nothing reads them."""
    template = yaml.safe_load((conf_dir() / "train.yaml").read_text(encoding="utf-8"))
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
    ]
    template["device"] = yaml.safe_load((conf_dir() / "device" / "auto.yaml").read_text(encoding="utf-8"))
    for name in SHAPED:
        node = config.get(name)
        if not isinstance(node, Mapping):
            errors.append(
                f"an option file in --config-dir sets '{name}' to {shown(node)}, and it holds keys of its own"
            )
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


def too_much(word: str) -> str | None:
    """Why a word is not even read: it is longer, or has more digits or brackets within brackets, than any
    setting needs.
    """
    depth = deepest = 0
    for letter in word:
        depth += (letter in "[{(") - (letter in "]})")
        deepest = max(deepest, depth)
    if deepest > DEEPEST_BRACKETS:
        return (
            f"'{shown(word, bare=True)}' has {deepest} brackets within brackets, and no "
            "setting is made of so many"
        )
    if number := LONG_NUMBER.search(word):
        return (
            f"'{shown(word, bare=True)}' holds a number of {len(number[0]):,} digits, which is too long: "
            f"numbers have 64 bits, at most {MOST}"
        )
    if len(word) > LONGEST_WORD:
        return f"'{shown(word, bare=True)}' is too long to be a setting: {LONGEST_WORD:,} letters at most"
    return None


def beyond(key: str, value: Any) -> list[str]:
    """Errors of a value that nothing here could use, whatever its key: the first door that every value goes
    through.

    Whole numbers have 64 bits, texts can be written down, lists are no longer than a person would type.
    """
    if isinstance(value, Mapping):
        odd = [name for name in value if not isinstance(name, str)]
        return (
            [f"{key} has a key that is no name: {shown(odd[0])}"]
            if odd
            else [
                error for name, inner in value.items() for error in beyond(f"{key}.{name}".lstrip("."), inner)
            ]
        )
    if isinstance(value, list):
        if len(value) > MOST_VALUES:
            return [f"{key} has {len(value):,} values, and {MOST_VALUES:,} are the most that a list takes"]
        return list(dict.fromkeys(error for inner in value for error in beyond(key, inner)))
    if isinstance(value, int) and abs(value) > MOST:
        return [f"{key} must be a number of 64 bits, at most {MOST}; given: {shown(value)}"]
    if isinstance(value, str) and (
        "\0" in value or len(value) > _LONGEST_TEXT or not value.isascii() and _torn(value)
    ):
        return [
            (
                f"{key} must be a text of at most {_LONGEST_TEXT:,} letters in UTF-8, without a zero byte; "
                f"given: {shown(value)}"
            )
        ]
    return []


def _torn(text: str) -> bool:
    """Whether it holds half a letter, as bytes that are no UTF-8 become."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def wrong_for_hydra(key: str, value: Any, placed: bool) -> list[str]:
    """Errors of a word for Hydra's own node, of which few keys are the user's: the others would change how
    runs are made here.
    """
    if key in ("hydra/launcher", "hydra/sweeper"):
        return [f"'{key}' is chosen by {key.partition('/')[2]}=NAME: kdx list {key.partition('/')[2]}"]
    if (
        placed
        or not (key in HYDRAS or key.startswith(HYDRAS_BELOW))
        or "_target_" in key
        or isinstance(value, Mapping)
    ):
        return [
            (
                f"'{shown(key, bare=True)}' is Hydra's own: of its keys {', '.join(HYDRAS)}, "
                "hydra.launcher.KEY and hydra.sweeper.KEY can be set"
            )
        ]
    return beyond(key, value)


def wrong_in_grid(key: str, values: Any) -> list[str]:
    """Errors of a preset's grid, which is read as words: it sets what runs compute, and not what the command
    line alone may say.
    """
    first = key.partition(".")[0]
    if not GRID_KEY.fullmatch(key) or first in NOT_IN_GRID or key in NOT_IN_GRID or "_target_" in key:
        return [
            (
                f"the grid of a preset (hydra.sweeper.params) cannot set '{shown(key, bare=True)}': only the "
                "command line can"
            )
        ]
    if "${" in str(values):
        return [
            (
                f"the grid of a preset (hydra.sweeper.params) gives '{key}' a reference to something else "
                f"({shown(str(values), bare=True)}): list its values"
            )
        ]
    return []


def wrong_option(group: str, value: Any) -> list[str]:
    several = isinstance(value, list) and group in SEVERAL
    options = options_of(group)
    wrong = [
        v
        for v in (value if several else [value])
        if not isinstance(v, str | int | float) or str(v) not in options
    ]
    return in_short(
        [f"{group} has no option '{shown(w, bare=True)}'{nearest(str(w), options)}" for w in wrong], group
    )


def wrong_key(known: Mapping[str, Any], path: Sequence[str], value: Any) -> list[str]:
    """Errors of one override: a key that is not there, or another kind of thing than what stands there."""
    node: Any = {k: v for k, v in known.items() if k != "choices"}
    for depth, name in enumerate(path):
        if not isinstance(node, Mapping) or name not in node:
            return [_no_key(node, path, depth, known["choices"])]
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


def _no_key(node: Any, path: Sequence[str], depth: int, choices: Mapping[str, Any]) -> str:
    where, asked = ".".join(path[:depth]), ".".join(path[: depth + 1])
    if not isinstance(node, Mapping):
        return f"'{asked}' is no key: '{where}' holds one value"
    siblings = {".".join([*path[:depth], k]) for k in node if not k.startswith("_")}
    siblings |= set(groups()) if depth == 0 else set()
    inside = (
        f" of {where}={shown(choices[where], bare=True)}"
        if where in choices
        else f" in '{where}'"
        if where
        else ""
    )
    return f"'{asked}' is no key{inside}{nearest(asked, siblings) if siblings else ', which has none'}"
