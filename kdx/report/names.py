"""Readable names for runs side by side: the settings in which they differ, `loss=slam seed=1`, instead of time stamps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

ELSEWHERE = {"store", "root", "workers", "checkpoint_seconds", "hydra"}
"""Keys that say where and how fast a run was computed, not what it was."""
FIRST = ("experiment", "dataset", "teacher", "student", "loss", "recipe", "select")
"""The order of the groups in a name; other keys follow as the config has them, and the seed comes last."""
NULL = "null"
"""What a key counts as in a run that has none of the name."""


def names(runs: Sequence[Mapping[str, Any]], folders: Sequence[str]) -> list[str]:
    """A name for each run, no two alike. runs: contents of run.json. folders: what to call those that settings do not tell apart."""
    found = [" ".join(f"{key}={value}" for key, value in of.items()) for of in changed(runs)]
    often = Counter(found)
    return [folder if not name else name if often[name] == 1 else f"{name} ({folder})" for name, folder in zip(found, folders, strict=True)]


def changed(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """For each run key -> value of what tells it from the others, in one order for all; {} where nothing does.

    Keys typed in some run's command are told where the runs differ in them, and so is the seed. Of the others, groups before single
    values, a key is told where those before it do not settle it: in `loss=kd` against `loss=slam` all that the two files set is left out.
    """
    flat = [settings(run.get("config")) for run in runs]
    typed = [{"seed", *typed_keys(run.get("command"))} for run in runs]
    known = {key: None for of in flat for key in of}
    differ = [key for key in known if len({of.get(key, NULL) for of in flat}) > 1]
    told = [key for key in differ if any(key in words for words in typed)]
    for key in sorted((key for key in differ if key not in told), key=lambda key: key.count(".")):
        if not settled(key, told, flat):
            told.append(key)
    place = {key: i for i, key in reversed([*enumerate([*FIRST, *known])])}
    told.sort(key=lambda key: (key == "seed", place[key]))
    chosen = {key for run in runs for key in options(run.get("config"))}
    groups = [key for key in told if key in chosen]
    alike: dict[tuple, list[dict[str, str]]] = {}
    for of in flat:
        alike.setdefault(tuple(of.get(key) for key in groups), []).append(of)
    open_keys = {same: {key for key in told if not settled(key, (), runs)} for same, runs in alike.items()}
    return [{key: of[key] for key in told if key in of and (key in groups or key in words or key in open_keys[tuple(of.get(k) for k in groups)])}
            for of, words in zip(flat, typed, strict=True)]  # fmt: skip


def settled(key: str, by: Sequence[str], flat: Sequence[Mapping[str, str]]) -> bool:
    """Whether runs that agree in all of `by` agree in `key` too."""
    seen: dict[tuple, str] = {}
    return all(seen.setdefault(tuple(of.get(k) for k in by), of.get(key, NULL)) == of.get(key, NULL) for of in flat)


def typed_keys(command: Any) -> list[str]:
    """Keys of the words of a command line: ["kdx", "train", "+loss=kd", "weights@loss.weights=debiased"] -> ["loss", "loss.weights"]"""
    words = command if isinstance(command, list) else []
    return [str(word).partition("=")[0].lstrip("+~").rpartition("@")[2] for word in words if "=" in str(word)]


def settings(config: Any, prefix: str = "") -> dict[str, str]:
    """A config as flat names and values as one would type them. A node with a `_target_` has a value of its own, the option chosen or else the
    name of its class; so has a node of such nodes, the list of their names: {"loss": "kd", "loss.alpha": "0.9", "augment": "[affine]"}.
    """
    if not isinstance(config, Mapping):
        return {}
    found: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if key in ELSEWHERE or str(key).startswith("_") or name == "choices":
            continue
        if not isinstance(value, Mapping):
            found[name] = written(value)
        elif "_target_" in value:
            found[name] = str(value["_target_"]).rpartition(".")[2].lower()
        elif all(isinstance(inner, Mapping) and "_target_" in inner for inner in value.values()):
            found[name] = written(list(value))
        found |= settings(value, name)
    return found if prefix else found | {str(group): written(option) for group, option in options(config).items()}


def options(config: Any) -> Mapping[str, Any]:
    """The option chosen in each group."""
    found = config.get("choices") if isinstance(config, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def written(value: Any) -> str:
    """A value as it is typed: true, null, 0.5, [a,b], words without quotes."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, (list, tuple)):
        return f"[{','.join(written(item) for item in value)}]"
    return json.dumps(value)
