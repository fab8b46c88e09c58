"""The groups that are chosen from and their options, those of the user's own folder too."""

from __future__ import annotations

import copy
import filecmp
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from kdx.config.meant import option_meant
from kdx.config.yaml_files import unreadable
from kdx.core import snapshot
from kdx.core.checks import shown
from kdx.core.errors import UserError, in_short, nearest
from kdx.core.paths import conf_dir

SLOTS = {"loss.weights": "weights", "loss.features": "features"}
"""Parts of a loss that are chosen by name, and the groups that they are chosen from."""
LAYERS = "layers"
"""The key of `loss` from which terms on hidden features take their layers; there in any case."""
QUICK_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times as fast as the other, where it was built."""
SEVERAL = ("augment", "shift", "features")
"""The groups of which several options are combined."""


def unslotted(word: str) -> str:
    """As it is typed: `loss.weights=one` of Hydra's `weights@loss.weights=one`."""
    group, at, rest = word.partition("@")
    return rest if at and SLOTS.get(rest.partition("=")[0]) == group else word


@functools.cache
def groups() -> list[str]:
    """The groups that a user chooses from; conf/model is chosen by way of teacher and student."""
    defaults = read_option(conf_dir() / "train.yaml")["defaults"]
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
    return snapshot.once(("options", group, *own), lambda: _options_of(group))


def _options_of(group: str) -> list[str]:
    folders = [place / group for place in (conf_dir(), *own)]
    return [
        p.relative_to(folder).with_suffix("").as_posix() for folder in folders for p in folder.rglob("*.yaml")
    ]


def option_file(group: str, name: str) -> Path | None:
    """Where an option is written: in conf/, or in the user's own folder; None where there is no such."""
    files = (folder / group / f"{name}.yaml" for folder in (conf_dir(), *own))
    return next((file for file in files if file.is_file()), None)


def read_option(file: Path) -> Any:
    """What an option file holds, read once a command while it is the same. Raises UserError, naming the line,
    where it cannot be read.
    """
    found = snapshot.while_same(
        ("option", os.path.abspath(file)), str(file), lambda: _read_option(file), lambda found: True
    )
    return copy.deepcopy(found)


def _read_option(file: Path) -> Any:
    try:
        text = file.read_text(encoding="utf-8")
        try:
            return yaml.load(text, QUICK_YAML)
        except yaml.YAMLError:
            return yaml.safe_load(text)  # says what is wrong in the words that Hydra has for it
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise unreadable(file, error) from error


def contents_of(group: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, what it holds) of every option of a group that holds keys; one may stand in both folders."""
    for folder in (conf_dir(), *own):
        for option in options_of(group):
            file = folder / group / f"{option}.yaml"
            content = read_option(file) if file.is_file() else None
            if isinstance(content, dict):
                yield option, content


def target_of(group: str, name: str) -> str | None:
    """The `_target_` that an option's file names; None where it names none."""
    file = option_file(group, name)
    found = read_option(file) if file else None
    return found.get("_target_") if isinstance(found, dict) else None


def no_address(file: Path) -> str:
    """What is said of an option file that names no code."""
    return f"'{file}' has no _target_, the address of its code: {example_address(file)}"


def example_address(file: Path) -> str:
    """What might stand in an option file."""
    stem = file.stem
    called = stem if file.parent.name == "model" else "".join(p[:1].upper() + p[1:] for p in stem.split("_"))
    return f"_target_: my_parts.{stem}.{called}"


def wrong_option(group: str, value: Any) -> list[str]:
    if isinstance(value, list) and group == "teacher":
        return ["teacher= names one: several that answer together are teachers=[cnn,resnet20]"]
    several = isinstance(value, list) and group in SEVERAL
    options = options_of(group)
    wrong = [
        v
        for v in (value if several else [value])
        if not isinstance(v, str | int | float) or str(v) not in options
    ]
    unknown = [f"{group} has no option '{shown(w, bare=True)}'{_instead(group, w, options)}" for w in wrong]
    slot = next((slot for slot, of in SLOTS.items() if of == group), group)
    return in_short(unknown or (unlike(slot, value) if several else []), group)


def unlike(key: str, names: Sequence[Any]) -> list[str]:
    """Why options that are combined cannot be: each counts once, and `none` is no other."""
    given, names = f"{key}={shown(list(names))}", [str(name) for name in names]
    twice = [f"{given} names {name} twice, and each is taken once" for name in _twice(names)]
    if not twice and "none" in names and len(names) > 1:
        return [f"{given} names none and others, and none means that there is no other: leave it out"]
    return [f"{why}: name it once" for why in twice]


def _twice(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _instead(group: str, value: Any, options: Sequence[str]) -> str:
    """What follows the name of an option that is not there: what is meant, the nearest, or where all are."""
    meant = option_meant(group, shown(value, bare=True))
    if meant:
        return f": write {meant}"
    close = nearest(str(value), options) or f"; kdx list {group} shows all {len(options)}"
    # what lies in a folder of the user's own cannot be known without it
    return close if own or "did you mean" in close else f"{close}; your own are found by --config-dir FOLDER"
