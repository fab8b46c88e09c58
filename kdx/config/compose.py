"""The command line composed by Hydra: every word checked first and all errors reported together, then the
configuration as plain values.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep as ChoiceSweep
from hydra.core.override_parser.types import Glob, Override
from hydra.core.override_parser.types import RangeSweep as RangeSweep
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdx.config.words import (
    SLOTS,
    beyond,
    folders,
    groups,
    misshapen,
    options_of,
    own,
    too_much,
    wrong_for_hydra,
    wrong_in_grid,
    wrong_key,
    wrong_option,
)
from kdx.config.words import quote_paths as quote_paths
from kdx.core import checks
from kdx.core.errors import UserErrors
from kdx.core.paths import conf_dir
from kdx.store import places

STAMP = "KDX_RUN_STAMP"
GRID = "grid"
"""The sweeper that runs all combinations."""
SEED = re.compile(r"seed=(0|[1-9][0-9]*)")
HOW = ("launcher", "sweeper")
UNCOMPOSED = (
    HydraException,
    OmegaConfBaseException,
    yaml.YAMLError,
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What composing raises where an option file is no YAML, or not laid out as an option, or a value does not
fit.
"""
TYPED_ONLY = ("allow", "store")
OWN_CONTROLS = "controls."
"""What the keys begin with of controls that the user names; each holds a `_target_` and its arguments."""
_REFERENCE = re.compile(
    r"\$\{[A-Za-z_][\w.]*\}|\$\{kdx_labelled_share:\$\{loss\.batch\},\$\{loss\.unlabel_ratio\}\}"
)
"""What an option file of the user's own may refer to."""
PLUGINS = {
    ("launcher", "joblib"): "joblib_launcher",
    ("launcher", "slurm"): "submitit_launcher",
    ("launcher", "submitit_local"): "submitit_launcher",
    ("launcher", "ray"): "ray_launcher",
    ("sweeper", "optuna"): "optuna_sweeper",
}
"""What each of their options needs beside Hydra: hydra_plugins.hydra_NAME; the extra of kdx is the first word
of it.
"""


def register_names() -> None:
    """A new name for the folder of this command's run, or sweep: two never share one."""
    os.environ[STAMP] = f"{time.strftime('%Y-%m-%d_%H-%M-%S')} {os.urandom(2).hex()}"
    OmegaConf.register_new_resolver("kdx_run_name", run_name, replace=True, use_cache=True)


def labelled_share(batch: Any, ratio: Any) -> float:
    """Of a batch, for losses that say how pool rows join the labelled ones: a half ("equal"), or one row to
    `ratio` of the pool ("ratio").

    A wrong value gives a half as well: the loss, which checks both, tells of it.
    """
    counts = isinstance(ratio, int | float) and not isinstance(ratio, bool) and 0 < ratio < float("inf")
    return 1 / (1 + ratio) if batch == "ratio" and counts else 0.5


def run_name(words: Sequence[str] = ()) -> str:
    moment, tail = os.environ[STAMP].split()
    return "_".join(p for p in (moment, slug(words), tail) if p)


def job_name(number: int, words: Sequence[str], whole: int | None = None, swept: Sequence[str] = ()) -> str:
    """The folder of one run of a sweep: its number, padded to the width of the last of `whole_config`, and
    its words, of `swept` keys only where given.
    """
    varied = [w for w in words if w.partition("=")[0].lstrip("+") in swept] if swept else words
    return f"{number:0{len(str(whole - 1)) if whole else 1}}_{slug(varied)}".rstrip("_")


def subdir(whole: int | None, swept: Sequence[str]) -> str:
    """The value of hydra.sweep.subdir that gives these names."""
    return f"'${{kdx_job_name:${{hydra:job.num}},${{hydra:overrides.task}},{' '.join([str(whole or 0), *swept])}}}'"  # noqa: E501


def _job_name(number: int, words: Sequence[str], more: str = "0") -> str:
    whole, *swept = str(more).split()
    return job_name(number, words, int(whole) or None, swept)


# Here and not in a function: a process that a launcher makes knows them by importing this.
OmegaConf.register_new_resolver("kdx_run_name", run_name, replace=True, use_cache=True)
OmegaConf.register_new_resolver("kdx_labelled_share", labelled_share, replace=True)
OmegaConf.register_new_resolver("kdx_job_name", _job_name, replace=True)


def slug(words: Sequence[str]) -> str:
    kept = [w for w in words if not re.match(r"^\+*(store|stages|device|hydra|launcher|sweeper)\b", w)]
    return "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", _shortened(w)).strip("-.") for w in kept)[:80].strip("-._")


def _shortened(word: str) -> str:
    """A word with its key, and of each path the last part only."""
    key, given, value = word.partition("=")
    return (
        key + given + re.sub(r"[^,'\"\[\](){}]*/(?=[^,/'\"\[\](){}])", "", value)
        if given
        else key.rpartition("/")[2]
    )


def parse_overrides(words: Sequence[str], errors: list[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for word in words:
        if found := too_much(word):
            errors.append(found)
            continue
        try:
            override = parser.parse_override(slotted(word))
        except (HydraException, ValueError):
            errors.append(_unreadable(word))
            continue
        if override.key_or_group:
            parsed.append(override)
        else:
            errors.append(_unreadable(f"={word.partition('=')[2]}"))
    return parsed


def swept(override: Override) -> list[str]:
    """The values of a word that stands for several, in the order in which they run."""
    value = override.value()
    return (
        sorted(value.filter(options_of(override.key_or_group)))
        if isinstance(value, Glob)
        else list(override.sweep_string_iterator())
    )


def sweeper_params(words: Sequence[str]) -> dict[str, str]:
    """key -> values of the grid that a composed configuration has; empty where it cannot be composed, which
    the checks tell.
    """
    try:
        made = whole_config(words)
    except HydraException:
        return {}
    return {str(key): str(values) for key, values in (made.hydra.sweeper.get("params") or {}).items()}


def _unreadable(word: str) -> str:
    key, given, _ = word.partition("=")
    short = checks.shown(word, bare=True)
    if not given:
        return f"'{short}' is no setting: write key=value"
    if not re.match(r"^[+~]*[\w@:./-]+$", key):
        return f"'{short}' has no key that could be read: write key=value"
    key = checks.shown(key, bare=True)
    return (
        f"'{short}' cannot be read: a bracket or a quote is left open, or a value with special characters "
        f"needs quotes: \"{key}='...'\""
    )


def plus_less(words: Sequence[str]) -> list[str]:
    """Every key stands in conf/, so `+key=value` and `++key=value` say no more than `key=value`; Hydra's own
    nodes keep theirs. Controls of the user's own are new keys, which Hydra takes with `++` alone.
    """
    return [_plus_less(word) for word in words]


def _plus_less(word: str) -> str:
    bare = word.lstrip("+")
    if bare.startswith("hydra"):
        return slotted(word)
    return f"++{bare}" if bare.startswith(OWN_CONTROLS) else slotted(bare)


def slotted(word: str) -> str:
    """`loss.weights=debiased` names an option of a slot, which in Hydra's words is
    `weights@loss.weights=debiased`.
    """
    key, given, value = word.partition("=")
    return f"{SLOTS[key]}@{word}" if given and key in SLOTS and not value.startswith("{") else word


def check_words(words: Sequence[str]) -> dict[str, Any]:
    """The configuration of one run as plain values. Raises UserErrors: unknown options and keys, each with
    the nearest match.
    """
    config, errors, _ = examine_words(words)
    if errors:
        raise UserErrors(errors)
    return config


def examine_words(words: Sequence[str]) -> tuple[dict[str, Any] | None, list[str], int]:
    """(the configuration of one run, errors, number of words that had none).

    Words with an error are left out of the configuration, and so are the keys of a group whose option is
    unknown.
    """
    errors: list[str] = []
    chosen, values, hydras, unsure = [], [], [], set()
    for override in parse_overrides(words, errors):
        group = override.key_or_group
        if group.split(".")[0].split("/")[0] == "hydra":
            found = wrong_for_hydra(group, override.value(), override.package is not None)
            errors += found
            hydras += [] if found else [override.input_line]
            continue
        found = _not_ours(override) or beyond(group, override.value())
        if not found and group in folders():
            found = wrong_option(group, override.value()) or _not_installed(group, override.value())
            chosen += [] if found else [override.input_line.lstrip("+")]
        elif not found:
            values.append(override)
        errors += found
        unsure |= {group} if found else set()
    try:
        known = _compose(chosen)
    except UNCOMPOSED as error:
        for slot, group in SLOTS.items():
            if f"'{group}@{slot}'" in str(error):
                errors.append(
                    f"this loss has no slot '{slot}': those that read a pool have it, such "
                    "as loss=soft or loss=slam"
                )
                return None, errors, 0
        return (
            None,
            [*errors, f"{checks.shown(' '.join(chosen), bare=True)} do not go together: {first_line(error)}"],
            0,
        )
    if own and (odd := [*misshapen(known), *beyond("", known)]):
        return None, [*errors, *odd], 0
    if own and (beyond_them := overreach(chosen, {o.key_or_group for o in values})):
        return None, [*errors, *beyond_them], 0  # nothing more is looked at: that could run what they name
    if hydras and not composes([*chosen, *hydras]):
        errors += [
            f"'{checks.shown(word, bare=True)}' is unknown to Hydra"
            for word in hydras
            if not composes([*chosen, word])
        ]
    kept: list[Override] = []
    for override in values:
        path = override.key_or_group.split(".")
        if path[0] not in unsure:
            found = _wrong_control(path) or wrong_key(_with_control(known, path), path, override.value())
            errors += found
            kept += [] if found else [override]
    whole = _overlaid(chosen, kept) if kept else known
    if whole is None:
        unfit = [override for override in kept if _overlaid(chosen, [override]) is None]
        errors += [_unfit(override.input_line.lstrip("+"), chosen) for override in unfit]
        kept = [override for override in kept if override not in unfit]
        whole = _overlaid(chosen, kept)
    if whole is None:
        return (
            None,
            [
                *errors,
                (
                    f"{checks.shown(' '.join(o.input_line for o in kept), bare=True)} do not go together: "
                    "one refers to another"
                ),
            ],
            0,
        )
    return whole, errors, len(chosen) + len(kept)


def _wrong_control(path: Sequence[str]) -> list[str]:
    """What is wrong with the key of a control of the user's own."""
    if path[0] != "controls" or len(path) == 3:
        return []
    return [
        f"'{'.'.join(path)}' is no key: a control has a name and keys, such as "
        "controls.longer._target_=mine.Longer"
    ]


def _with_control(known: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    """The known keys, with that of a control of the user's own among them."""
    if path[0] != "controls":
        return known
    own = known["controls"] or {}
    return {**known, "controls": {**own, path[1]: {path[2]: None, **own.get(path[1], {})}}}


def overreach(chosen: Sequence[str], typed: set[str]) -> list[str]:
    """Errors of option files in --config-dir: what only the command line may say, as it decides what code
    runs and where is written.

    chosen: words that choose options. typed: keys that are set on the command line, which count.
    docs/security.md tells what is trusted.
    """
    found = _kept(tuple(chosen), tuple(own))
    how = {name: found.hydra.runtime.choices[name] for name in HOW}
    ours = _kept(
        tuple(
            f"{name}={option}"
            for name, option in how.items()
            if (conf_dir() / name / f"{option}.yaml").is_file()
        ),
        tuple(own),
    )
    said, plainly = (OmegaConf.to_container(node, resolve=False) for node in (found, ours))
    errors = [
        (
            f"an option file in --config-dir sets '{key}' to {checks.shown(said[key])}, which counts from "
            f"the command line only: type {key}=VALUE"
        )
        for key in TYPED_ONLY
        if said[key] != plainly[key] and key not in typed
    ]
    hydra, plain_hydra = said.pop("hydra"), plainly.pop("hydra")
    grid = (hydra.get("sweeper") or {}).pop("params", None) or {}
    (plain_hydra.get("sweeper") or {}).pop("params", None)
    for node in (hydra, plain_hydra):  # what tells of this very composition
        for part in ("runtime", "overrides", "searchpath", "job"):
            node[part] = (
                {k: v for k, v in node[part].items() if k in ("chdir", "env_set", "env_copy")}
                if part == "job"
                else None
            )
    errors += [
        (
            f"an option file in --config-dir sets 'hydra.{key}', which decides what runs and where is "
            "written: on the command line only"
        )
        for key in differing(hydra, plain_hydra)[:1]
    ]
    for key, values in grid.items():
        errors += wrong_in_grid(str(key), values)
    errors += [
        (
            f"an option file in --config-dir sets '{key}' to {checks.shown(text)}, and may refer to other "
            "keys only: ${KEY}"
        )
        for key, text in texts(said)
        if "${" in _REFERENCE.sub("", text)
    ]
    if said["dataset"].get("download") and "dataset.download" not in typed:
        errors += [
            "the grid of a preset (hydra.sweeper.params) has a data set downloaded to "
            f"'{checks.shown(str(grid[key]), bare=True)}': say so with {key}=PATH in place of the grid, or "
            "dataset.download=false"
            for key in places.dotted(said["dataset"])
            if key in grid
        ]
        own_nodes = [
            yaml.safe_load(file.read_text(encoding="utf-8")).get("dataset", {})
            for file in (conf_dir() / "dataset").glob("*.yaml")
        ]
        known = {"None", *(str(node[key]) for node in own_nodes for key in places.path_keys(node))}
        errors += [
            "an option file in --config-dir has a data set downloaded to "
            f"'{checks.shown(said['dataset'][key], bare=True)}': say so with dataset.{key}=PATH, or "
            "dataset.download=false"
            for key in places.path_keys(said["dataset"])
            if str(said["dataset"][key]) not in known and f"dataset.{key}" not in typed
        ]
    return errors


def differing(one: Any, other: Any, path: str = "") -> list[str]:
    """Dotted keys whose values differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return [
            key
            for name in {**one, **other}
            for key in differing(one.get(name), other.get(name), f"{path}.{name}".lstrip("."))
        ]
    return [] if one == other else [path]


def texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, text) of every text in plain values."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from texts(inner, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner, path)
    elif isinstance(value, str):
        yield path, value


def _not_installed(group: str, option: Any) -> list[str]:
    plugin = PLUGINS.get((group, option)) if isinstance(option, str) else None
    if plugin is None or importlib.util.find_spec(f"hydra_plugins.hydra_{plugin}") is not None:
        return []
    return [
        (
            f"{group}={option} needs Hydra's plugin, which is not installed: pip install "
            f"'kdx[{plugin.partition('_')[0]}]'"
        )
    ]


def _compose(words: Sequence[str], resolve: bool = True) -> dict[str, Any]:
    base, choices = _base(tuple(words), tuple(own))
    return OmegaConf.to_container(base, resolve=resolve) | {"choices": dict(choices)}


def _overlaid(chosen: Sequence[str], values: Sequence[Override]) -> dict[str, Any] | None:
    """What Hydra composes of these options and values; None where a value does not fit.

    The options are composed once and kept, and the values laid over them as Hydra does: a tenth of the time,
    which a sweep feels. A seed comes last where nothing refers to it, so that a sweep over seeds does even
    that once.
    """
    seeds = [o for o in values if SEED.fullmatch(o.input_line.lstrip("+"))]
    rest = [o for o in values if o not in seeds]
    if seeds and "${seed" not in "".join(
        [json.dumps(_compose(chosen, resolve=False)), *(o.input_line for o in rest)]
    ):
        found = _laid(tuple(chosen), _Values(rest), tuple(own))
        return found and copy.deepcopy(found) | {"seed": seeds[-1].value()}
    return copy.deepcopy(_laid(tuple(chosen), _Values(values), tuple(own)))


class _Values:
    """Overrides that are equal where their texts are."""

    def __init__(self, overrides: Sequence[Override]):
        self.overrides, self.lines = overrides, tuple(o.input_line.lstrip("+") for o in overrides)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Values) and self.lines == other.lines

    def __hash__(self) -> int:
        return hash(self.lines)


@functools.lru_cache(maxsize=64)
def _laid(chosen: tuple[str, ...], values: _Values, own: tuple[Path, ...]) -> dict[str, Any] | None:
    """Over a copy of the composed options: `ConfigLoaderImpl._apply_overrides_to_config` for values without a
    prefix.
    """
    base, choices = _base(chosen, own)
    config = copy.deepcopy(base)
    try:
        for override in values.overrides:
            key = override.key_or_group
            new = key.startswith(OWN_CONTROLS)
            OmegaConf.update(config, key, override.value(), merge=True, force_add=new)
        return OmegaConf.to_container(config, resolve=True) | {"choices": dict(choices)}
    except UNCOMPOSED:
        return None


@functools.lru_cache(maxsize=64)
def _base(chosen: tuple[str, ...], own: tuple[Path, ...]) -> tuple[Any, dict[str, Any]]:
    """(the composed options without Hydra's node, closed to further keys; which were chosen)"""
    composed = _kept(chosen, own)
    base = OmegaConf.masked_copy(composed, [k for k in composed if k != "hydra"])
    OmegaConf.set_struct(base, True)
    return base, _choices(composed)


@functools.lru_cache(maxsize=64)
def _kept(words: tuple[str, ...], own: tuple[Path, ...]) -> Any:
    """`whole_config`, kept, as the combinations of a sweep share most of it. Not to be changed."""
    return whole_config(words)


def whole_config(words: Sequence[str]) -> Any:
    """The composed configuration as Hydra has it, with Hydra's own node and the user's own options."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(
            "train",
            [*words, *(f"hydra.searchpath=['file://{folder}']" for folder in own)],
            return_hydra_config=True,
        )


def composes(words: Sequence[str]) -> bool:
    try:
        _compose(words)
    except UNCOMPOSED:
        return False
    return True


def plain_config(config: Any, resolve: bool = True) -> dict[str, Any]:
    """A composed configuration as JSON values, without Hydra's own node; of that only the options chosen,
    under `choices`.
    """
    kept = OmegaConf.to_container(
        OmegaConf.masked_copy(config, [k for k in config if k != "hydra"]), resolve=resolve
    )
    return kept | {"choices": _choices(config)}


def _choices(config: Any) -> dict[str, Any]:
    hydra = config.get("hydra") or HydraConfig.get()
    return {k: v for k, v in hydra.runtime.choices.items() if "/" not in k and "@" not in k and k not in HOW}


def _not_ours(override: Override) -> list[str]:
    """Ways of writing that Hydra has and kdx has no use for."""
    key = override.key_or_group
    if override.is_delete():
        return [f"'~{key}' would take away what every run needs: give it another value with {key}=VALUE"]
    if SLOTS.get(override.package) == key:
        return []
    if key in SLOTS.values():
        slot = next(slot for slot, group in SLOTS.items() if group == key)
        return [f"'{key}' is the group of a slot: write {slot}=OPTION"]
    if key in folders() and key not in groups():
        return [f"'{key}' is no group to choose from; one of: {', '.join(groups())}"]
    if override.package is not None:
        return [
            (
                f"'{checks.shown(override.input_line or key, bare=True)}' places an option elsewhere, and "
                f"each has its place: write {key}=OPTION"
            )
        ]
    return []


def _unfit(word: str, chosen: Sequence[str]) -> str:
    """Why a word whose key exists cannot be set: it lies inside something taken from elsewhere, or refers to
    what is not there.
    """
    path, _, value = word.partition("=")
    node: Any = _compose(chosen, resolve=False)
    for depth, name in enumerate(path.split(".")):
        if isinstance(node, str) and node.startswith("${"):
            here, there = ".".join(path.split(".")[:depth]), node.strip("${}")
            return (
                f"'{here}' is taken from '{there}': set "
                f"{there}.{'.'.join(path.split('.')[depth:])}, or all of {here}"
            )
        node = node.get(name) if isinstance(node, Mapping) else None
    if "${" in value:
        return f"'{word}' refers to a key or an environment variable that is not there"
    return f"'{word}' does not fit what stands there: {checks.shown(node)}"


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].endswith("raised while composing config:") and len(lines) > 1:
        return f"{lines[0].partition(':')[0]}: {lines[1]}"
    return lines[0] if lines else type(error).__name__


def quiet_hydra(words: Sequence[str]) -> None:
    """What @hydra.main reads from the process: the words, and that errors are raised instead of printed."""
    sys.argv = ["kdx train", *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"


def in_sweep() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN


def working_directory() -> str:
    """Where the command was given. A process that a launcher has made may stand elsewhere."""
    return HydraConfig.get().runtime.cwd


def output_dir() -> Path:
    return Path(HydraConfig.get().runtime.output_dir)


def task_words() -> list[str]:
    return [
        word if word.startswith("hydra") else word.lstrip("+") for word in HydraConfig.get().overrides.task
    ]
