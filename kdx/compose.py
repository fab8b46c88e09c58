"""The command line composed by Hydra: every word checked first and all faults told together, then the configuration as plain values."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdx.faults import Fault, Faults, nearest
from kdx.locate import conf_dir

WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")
PATHS = re.compile(r"^(?P<key>\+{0,2}(?:\w+\.)*(?:root|\w+_root|checkpoint|store|hydra\.run\.dir|hydra\.sweep\.dir))=(?P<value>.+)$")
STAMP = "KDX_RUN_STAMP"


def flags_first(words: Sequence[str]) -> list[str]:
    """Hydra wants its flags before the overrides; people write them anywhere."""
    flags, rest, words = [], [], list(words)
    while words:
        word = words.pop(0)
        if word.startswith("-") and "=" not in word.split("-")[0] and not word.startswith("-="):
            flags.append(word)
            if word in WITH_VALUE and words:
                flags.append(words.pop(0))
        else:
            rest.append(word)
    return flags + rest


def quote_paths(words: Sequence[str]) -> list[str]:
    """Paths may hold `=`, commas and spaces, which mean something to Hydra: their values are quoted."""
    return [_quoted(w) for w in words]


def _quoted(word: str) -> str:
    match = PATHS.match(word)
    if not match or match["value"][0] in "'\"" or match["value"] == "null" or not re.search(r"[=,\s(){}\[\]:'\"]", match["value"]):
        return word
    value = match["value"].replace("\\", "\\\\").replace("'", "\\'")
    return f"{match['key']}='{value}'"


def register_names() -> None:
    """Resolvers for the names of run folders: letters, digits, `-`, `_` and `.` only; two runs never share one."""
    os.environ[STAMP] = f"{time.strftime('%Y-%m-%d_%H-%M-%S')} {os.urandom(2).hex()}"
    OmegaConf.register_new_resolver("kdx_run_name", run_name, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("kdx_job_name", lambda number, words: f"{number}_{_slug(words)}".rstrip("_"), replace=True)


def run_name(words: Sequence[str] = ()) -> str:
    moment, tail = os.environ[STAMP].split()
    return "_".join(p for p in (moment, _slug(words), tail) if p)


def _slug(words: Sequence[str]) -> str:
    kept = [w for w in words if not re.match(r"^\+*(store|stages|device|hydra)\b", w)]
    return "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", w.split("/")[-1] if "/" in w else w).strip("-.") for w in kept)[:80].strip("-._")


def jobs(words: Sequence[str], multirun: bool) -> list[list[str]]:
    """The overrides of each run: one, or every combination of a sweep."""
    parsed = _parse(words)
    if not multirun:
        swept = [o.input_line for o in parsed if o.is_sweep_override()]
        if swept:
            raise Fault(f"'{swept[0]}' names several values; add -m to run them all, or quote a value that holds a comma")
        return [list(words)]
    import itertools

    choices = []
    for override in parsed:
        if override.is_sweep_override():
            key = override.get_key_element()
            choices.append([f"{key}={v}" for v in override.sweep_string_iterator()])
        else:
            choices.append([override.input_line])
    return [list(c) for c in itertools.product(*choices)]


def _parse(words: Sequence[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed, faults = [], []
    for word in words:
        try:
            parsed.append(parser.parse_override(word))
        except HydraException as error:
            faults.append(f"'{word}' cannot be read: {first_line(error)}; write key=value, and quote a value with special characters")
    if faults:
        raise Faults(faults)
    return parsed


def check_words(words: Sequence[str]) -> dict[str, Any]:
    """The configuration of one run as plain values. Raises Faults: unknown options and keys, each with the nearest match."""
    parsed = _parse(words)
    faults: list[str] = []
    chosen, values = [], []
    for override in parsed:
        group = override.key_or_group
        if (conf_dir() / group).is_dir() and not group.startswith("hydra"):
            faults += _unknown_options(group, override)
            chosen.append(override.input_line)
        else:
            values.append(override)
    if faults:
        raise Faults(faults)
    known = {k: v for k, v in _compose(chosen).items() if k != "choices"}
    with_hydra = [o for o in values if not o.key_or_group.startswith("hydra")]
    for override in with_hydra:
        faults += _unknown_key(known, override)
    if faults:
        raise Faults(faults)
    return _compose(chosen + [o.input_line.lstrip("+") for o in with_hydra])


def _compose(words: Sequence[str]) -> dict[str, Any]:
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return plain(compose("train", list(words), return_hydra_config=True))
    except (HydraException, OmegaConfBaseException) as error:
        raise Fault(first_line(error)) from error


def plain(config: Any) -> dict[str, Any]:
    """A composed configuration as JSON values, without Hydra's own node; of that only the options chosen, under `choices`."""
    kept = OmegaConf.to_container(OmegaConf.masked_copy(config, [k for k in config if k != "hydra"]), resolve=True)
    hydra = config.get("hydra") or HydraConfig.get()
    return kept | {"choices": {k: v for k, v in hydra.runtime.choices.items() if "/" not in k and "@" not in k}}


def _unknown_options(group: str, override: Override) -> list[str]:
    options = [p.relative_to(conf_dir() / group).with_suffix("").as_posix() for p in (conf_dir() / group).rglob("*.yaml")]
    value = override.value()
    asked = value if isinstance(value, list) else [value]
    return [f"{group} has no option '{a}'{nearest(str(a), options)}" for a in asked if a is not None and str(a) not in options]


def _unknown_key(known: Mapping[str, Any], override: Override) -> list[str]:
    if override.is_delete():
        return []
    node: Any = known
    path = override.key_or_group.split(".")
    for depth, name in enumerate(path):
        if not isinstance(node, Mapping) or name not in node:
            where = ".".join(path[:depth])
            siblings = [".".join([*path[:depth], k]) for k in node if not k.startswith("_")] if isinstance(node, Mapping) else []
            if depth == 0:
                siblings += [p.name for p in conf_dir().iterdir() if p.is_dir()]
            inside = f" in '{where}'" if where else ""
            return [f"'{'.'.join(path[: depth + 1])}' is no key{inside}{nearest('.'.join(path[: depth + 1]), siblings)}"]
        node = node[name]
    return []


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def quiet_hydra(words: Sequence[str]) -> None:
    """What @hydra.main reads from the process: the words, and that errors are raised instead of printed."""
    sys.argv = ["kdx train", *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"


def output_dir() -> Path:
    return Path(HydraConfig.get().runtime.output_dir)


def task_words() -> list[str]:
    return list(HydraConfig.get().overrides.task)
