"""Readable names for runs side by side: the settings in which they differ, written as on a command line. Pure
functions of any document.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdx.store.moved import without_old_keys
from kdx.store.places import recorded

TARGET = "._target_"
ELSEWHERE = frozenset({"store", "workers", "threads", "checkpoint_seconds", "publish", "hydra"})
"""Names of keys that say where and how fast a run was computed, not what it was."""
ORDER = ("dataset", "teacher", "loss", "student", "init", "select", "augment", "recipe", "experiment")
"""Which choices are thought of first as the cause of a difference."""
DEFAULT = "default"
"""What a run is called that has, of all that differs, nothing but what is so without a word."""
_LONGEST = 60

Key = tuple[bool, str]
"""(whether it is a choice of a group, its name): `loss` the option, `loss.temperature` a value."""


@dataclass(frozen=True)
class Settings:
    """What a run was asked for. choices: group -> option. values: dotted key -> value, less nulls, which are
    as what is not there. given: the keys on its command line."""

    choices: Mapping[str, str]
    values: Mapping[str, Any]
    given: frozenset[str]


def settings(config: Any, command: Any, protocol: Any = None) -> Settings:
    """Of run.json, whoever wrote it, less what is `ELSEWHERE` and where its data lie."""
    config = without_old_keys(config) if isinstance(config, Mapping) else config
    paths = recorded(config, protocol)
    values = {
        key: value
        for key, value in everything(config).items()
        if value is not None and ELSEWHERE.isdisjoint(key.split(".")) and key not in paths
    }
    return Settings(choices(config), values, typed_keys(command))


def name_runs(runs: Sequence[Settings], folders: Sequence[str]) -> list[str]:
    """A name for each run, no two alike. folders: what to call those that settings do not tell apart, or
    whose settings are not known.
    """
    known = [i for i, run in enumerate(runs) if run.values]
    words = changed([runs[i] for i in known])
    found = dict(zip(known, map(join, words), strict=True)) if any(words) else {}
    often = Counter(found.values())
    return [
        folder if i not in found else found[i] if often[found[i]] == 1 else f"{found[i]} ({folder})"
        for i, folder in enumerate(folders)
    ]


def changed(runs: Sequence[Settings]) -> list[dict[str, str]]:
    """For each run the words of its name: key -> value. No two are alike where no two settings are; {} of a
    run of which nothing needs to be said.

    Of the keys that differ, those are said that stood on the run's own command line; and of every run the
    only one that anybody typed, or the only choice among them. Runs that these do not tell apart have more
    words, choices first. What follows from a choice is thus not repeated: loss=slam, but not what slam sets.
    That there is nothing (null, none, []) is said where it was typed, unless it is so without a word too.
    """
    held = [_held(run) for run in runs]
    differing = [
        key
        for key in sorted({key for of in held for key in of}, key=_place)
        if len({of.get(key) for of in held}) > 1
    ]
    spoken = _asked(runs, differing)
    usual = {
        key
        for key in differing
        for run, of in zip(runs, held, strict=True)
        if key not in of and _spoken(key) not in run.given
    }
    while True:
        found = [
            _words(
                run, [k for k in differing if k in own and (k in of or (_typed(run, k) and k not in usual))]
            )
            for run, of, own in zip(runs, held, spoken, strict=True)
        ]
        more = [(those, key) for those in _alike(found) if (key := _telling(differing, held, spoken, those))]
        if not more:
            return found
        for those, key in more:
            for i in those:
                spoken[i] = spoken[i] | {key}


def _asked(runs: Sequence[Settings], differing: Sequence[Key]) -> list[set[Key]]:
    """Of each run the keys, of those that differ, that its name has for having been typed; where it was
    computed is said of runs only that nothing else tells apart."""
    what = [key for key in differing if _spoken(key).partition(".")[0] != "device"]
    asked = [key for key in what if any(_typed(run, key) for run in runs)]
    choices_asked = [key for key in asked if key[0]]
    # the option says more than its class
    asked = [key for key in asked if key in choices_asked or (True, _spoken(key)) not in choices_asked]
    of_all = {keys[0] for keys in (choices_asked, asked) if len(keys) == 1}
    return [of_all | {key for key in asked if _typed(run, key)} for run in runs]


def _telling(
    differing: Sequence[Key],
    held: Sequence[Mapping[Key, str]],
    spoken: Sequence[set[Key]],
    those: Sequence[int],
) -> Key | None:
    """The first key that tells some of `those` runs apart and is not said of them all."""
    return next(
        (
            key
            for key in differing
            if len({held[i].get(key) for i in those}) > 1 and any(key not in spoken[i] for i in those)
        ),
        None,
    )


def _alike(found: Sequence[Mapping[str, str]]) -> list[list[int]]:
    """The places of words that several runs have, whatever their seeds: those that differ by seed alone say
    it all.
    """
    places: dict[str, list[int]] = {}
    for i, words in enumerate(found):
        places.setdefault(join({key: said for key, said in words.items() if key != "seed"}), []).append(i)
    return [those for those in places.values() if len(those) > 1]


def _words(run: Settings, keys: Sequence[Key]) -> dict[str, str]:
    options = {name for choice, name in keys if choice}
    return {_spoken(key): _shorten(_text(run, key)) for key in keys if key[0] or _spoken(key) not in options}


def _typed(run: Settings, key: Key) -> bool:
    return _spoken(key) in run.given


def join(words: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in words.items()) or DEFAULT


def _shorten(text: str) -> str:
    """Long values are cut, and distinguished by their digest."""
    return (
        text
        if len(text) <= _LONGEST
        else f"{text[: _LONGEST - 10]}…{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:6]}"
    )


def _held(run: Settings) -> dict[Key, str]:
    """Without what says that there is nothing, as where there is no such key."""
    return {(True, key): option for key, option in run.choices.items() if option != "none"} | {
        (False, key): json.dumps(value, sort_keys=True)
        for key, value in run.values.items()
        if value not in (None, [])
    }


def _place(key: Key) -> tuple:
    """In the order in which they are thought of: choices, classes, then values, those of few parts first; the
    seed last.
    """
    choice, name = key
    return (
        name == "seed",
        not choice,
        ORDER.index(name) if name in ORDER else len(ORDER),
        not name.endswith(TARGET),
        name.count("."),
        name,
    )


def _parts(values: Sequence[tuple]) -> list[int]:
    """Equal values as equal numbers, from 0 up."""
    numbers: dict[tuple, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]


def _spoken(key: Key) -> str:
    return key[1].removesuffix(TARGET)


def _text(run: Settings, key: Key) -> str:
    choice, name = key
    return run.choices.get(name, "none") if choice else written(name, run.values.get(name))


# What a run.json says, and how one would type it


def everything(config: Any) -> dict[str, Any]:
    """dotted key -> value of every leaf of a config; a list is one. The options chosen are not among them."""
    return (
        dict(settings_in({key: value for key, value in config.items() if key != "choices"}))
        if isinstance(config, Mapping)
        else {}
    )


def settings_in(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from settings_in(value, f"{prefix}{visible(str(key))}.")
        else:
            yield f"{prefix}{visible(str(key))}", value


def choices(config: Any) -> dict[str, str]:
    """group -> the option chosen. Of nodes of which several are taken, such as `augment`, the names are the
    keys.
    """
    if not isinstance(config, Mapping):
        return {}
    several = {key: typed(list(node)) if node else "none" for key, node in _collections(config)}
    found = config.get("choices")
    return several | {
        visible(str(key)): typed(value)
        for key, value in (found.items() if isinstance(found, Mapping) else ())
        if value is not None
    }


def _collections(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(dotted key, node) of the nodes that hold nothing but nodes with a class."""
    for key, value in node.items():
        if isinstance(value, Mapping) and (prefix or key != "choices"):
            name = f"{prefix}{visible(str(key))}"
            if all(isinstance(inner, Mapping) and "_target_" in inner for inner in value.values()):
                yield name, value
            yield from _collections(value, f"{name}.")


def typed_keys(command: Any) -> frozenset[str]:
    """Keys of the words of a command line: ["kdx", "train", "+loss=kd", "weights@loss.weights=debiased"] ->
    loss, loss.weights
    """
    words = command if isinstance(command, list) else []
    return frozenset(
        str(word).partition("=")[0].lstrip("+~").rpartition("@")[2] for word in words if "=" in str(word)
    )


def written(key: str, value: Any) -> str:
    """A value as it is typed; of a class the module, which is what the option is called."""
    if key.endswith(TARGET) and isinstance(value, str) and value.count(".") >= 2:
        return visible(value.split(".")[-2])
    return typed(value)


def typed(value: Any) -> str:
    """true, null, 0.5, [a,b], {a:1}, words without quotes."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(typed, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{visible(str(key))}:{typed(inner)}' for key, inner in value.items())}}}"
    return visible(value if isinstance(value, str) else json.dumps(value))


def visible(text: str) -> str:
    """On one line, and without characters that a terminal would obey."""
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
