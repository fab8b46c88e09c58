"""Options and values composed as Hydra does, each composition once."""

from __future__ import annotations

import contextlib
import copy
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdx.config.compose.members import with_members
from kdx.config.compose.parsing import names_own_part
from kdx.config.options import LAYERS, QUICK_YAML, own
from kdx.core.collecting import uncollected
from kdx.core.errors import UserErrors
from kdx.core.paths import conf_dir

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


def composed(words: Sequence[str], resolve: bool = True) -> dict[str, Any]:
    return copied(_contained(tuple(words), tuple(own), resolve))


def overlaid(chosen: Sequence[str], values: Sequence[Override]) -> dict[str, Any] | None:
    """What Hydra composes of these options and values; None where a value does not fit.

    The options are composed once and kept. Values that nothing else can hang on, which are most, are set on a
    copy of what these make; the others are laid over them as Hydra does.
    """
    free, others = _apart(chosen, values)
    found = _laid(tuple(chosen), _Values(others), tuple(own))
    if found is None:
        return None
    found = copied(found)
    for override in free:
        *path, last = override.key_or_group.split(".")
        node = found
        for name in path:
            node = node[name]
        node[last] = override.value()
    return found


def _apart(chosen: Sequence[str], values: Sequence[Override]) -> tuple[list[Override], list[Override]]:
    """(values that are set where they stand, whatever the others are; the others)"""
    known, seen = _contained(tuple(chosen), tuple(own), False), _referred(tuple(chosen), tuple(own))
    free = [override for override in values if _is_free(override, known)]
    others = [override for override in values if override not in free]
    # what refers to another key, or lies above or inside one that is set too
    held = [*seen, *(path for o in others for path in (o.key_or_group, *_references(o.input_line)))]
    if any(path.startswith(".") for path in held):
        return [], list(values)
    paths = [path.split(".") for path in held]
    apart = [o for o in free if not any(_overlap(o.key_or_group.split("."), path) for path in paths)]
    return apart, [override for override in values if override not in apart]


def _is_free(override: Override, known: Mapping[str, Any]) -> bool:
    """Whether it gives a plain value to a key that has one."""
    node: Any = known
    path = override.key_or_group.split(".")
    for name in path:
        if not isinstance(node, Mapping) or name not in node:
            return False
        node = node[name]
    return (
        path[0] != "choices"
        and not override.is_sweep_override()
        and _is_plain(node)
        and _is_plain(override.value())
    )


def _is_plain(value: Any) -> bool:
    """Whether it is one value, or a list of such, and refers to nothing."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, str):
        return "${" not in value and value != "???"
    return value is None or isinstance(value, bool | int | float)


def _overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether one key is the other, or lies inside it."""
    return all(a == b for a, b in zip(one, other, strict=False))


@functools.lru_cache(maxsize=64)
def _referred(chosen: tuple[str, ...], own: tuple[Path, ...]) -> frozenset[str]:
    """The dotted keys that something in the composed options refers to."""
    todo, found = [_contained(chosen, own, False)], set()
    while todo:
        value = todo.pop()
        if isinstance(value, str):
            found |= set(_references(value))
        elif isinstance(value, Mapping | list):
            todo += value.values() if isinstance(value, Mapping) else value
    return frozenset(found)


def _references(text: str) -> list[str]:
    """Every word of a text that refers to something: keys are among them, relative ones begin with a dot."""
    return re.findall(r"[^\s${}\[\]()<>:,'\"=]+", text) if "${" in text else []


def copied(value: Any) -> Any:
    """Plain values once more."""
    if isinstance(value, dict):
        return {key: copied(inner) for key, inner in value.items()}
    return [copied(inner) for inner in value] if isinstance(value, list) else value


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
    if not values.overrides:
        with contextlib.suppress(*UNCOMPOSED):
            return _contained(chosen, own, True)
        return None
    base, choices = _base(chosen, own)
    config = copy.deepcopy(base)
    try:
        for override in values.overrides:
            key = override.key_or_group
            new = names_own_part(key)
            OmegaConf.update(config, key, override.value(), merge=True, force_add=new)
        return OmegaConf.to_container(config, resolve=True) | {"choices": dict(choices)}
    except UNCOMPOSED:
        return None


@functools.lru_cache(maxsize=128)
def _contained(chosen: tuple[str, ...], own: tuple[Path, ...], resolve: bool) -> dict[str, Any]:
    """The composed options as plain values. Not to be changed."""
    base, choices = _base(chosen, own)
    return OmegaConf.to_container(base, resolve=resolve) | {"choices": dict(choices)}


@functools.lru_cache(maxsize=64)
def _base(chosen: tuple[str, ...], own: tuple[Path, ...]) -> tuple[Any, dict[str, Any]]:
    """(the composed options without Hydra's node, closed to further keys; which were chosen)"""
    composed = kept(chosen, own)
    base = OmegaConf.masked_copy(composed, [k for k in composed if k != "hydra"])
    OmegaConf.set_struct(base, True)
    return base, _choices(composed)


@functools.lru_cache(maxsize=64)
def kept(words: tuple[str, ...], own: tuple[Path, ...]) -> Any:
    """`whole_config`, kept, as the combinations of a sweep share most of it. Not to be changed."""
    return whole_config(words)


def forget_options() -> None:
    """What was read of the user's own option files, which may have been changed since."""
    for kept_of in (_referred, _laid, _contained, _base, kept):
        kept_of.cache_clear()


def whole_config(words: Sequence[str]) -> Any:
    """The composed configuration as Hydra has it, with Hydra's own node and the user's own options."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"), quick_yaml():
        return compose(
            "train",
            [*words, *(f"hydra.searchpath=['file://{folder}']" for folder in own)],
            return_hydra_config=True,
        )


@contextlib.contextmanager
def quick_yaml() -> Iterator[None]:
    """Inside, OmegaConf reads option files by libyaml where that is there, and nothing that it composes is
    looked through for garbage: a third of the time. Files that are not of kdx are read by OmegaConf's own, as
    both readers need not agree on these, as they do on kdx's (tests/test_growth.py).
    """
    plain = yaml.SafeLoader
    yaml.SafeLoader = plain if own else QUICK_YAML  # type: ignore[misc]
    try:
        with uncollected():
            yield
    finally:
        yaml.SafeLoader = plain  # type: ignore[misc]


def composes(words: Sequence[str]) -> bool:
    try:
        composed(words)
    except UNCOMPOSED:
        return False
    return True


def plain_config(config: Any) -> dict[str, Any]:
    """A composed configuration as JSON values, without Hydra's own node; of that only the options chosen,
    under `choices`. Several teachers are spelled out.
    """
    hydra = config.get("hydra") or HydraConfig.get()
    if not own:  # in a process that a launcher made
        sources = (source.path for source in hydra.runtime.config_sources if source.schema == "file")
        own[:] = [Path(path) for path in sources if path and Path(path) != conf_dir()]
    found, errors = with_members(_plain(config), lambda name: _composed_as(name, hydra))
    if errors:
        raise UserErrors(errors)
    return found


def _composed_as(teacher: str, hydra: Any) -> dict[str, Any]:
    """What the words of a run compose with another teacher."""
    words = [word for word in hydra.overrides.task if word.partition("=")[0] != "teacher"]
    return _plain(whole_config([*words, f"teacher={teacher}"]))


def _plain(config: Any) -> dict[str, Any]:
    kept = OmegaConf.to_container(
        OmegaConf.masked_copy(config, [k for k in config if k != "hydra"]), resolve=True
    )
    return without_layers(kept) | {"choices": _choices(config)}


def without_layers(config: dict[str, Any]) -> dict[str, Any]:
    """Without `loss.layers`, from which terms on hidden features take their layers: they have them by now.
    No loss of kdx has a key of that name."""
    loss = config.get("loss")
    layers = loss.get(LAYERS) if isinstance(loss, Mapping) else None
    if not isinstance(layers, Mapping) or set(layers) != {"student", "teacher"}:
        return config
    return {**config, "loss": {key: value for key, value in loss.items() if key != LAYERS}}


def _choices(config: Any) -> dict[str, Any]:
    hydra = config.get("hydra") or HydraConfig.get()
    return {k: v for k, v in hydra.runtime.choices.items() if "/" not in k and "@" not in k and k not in HOW}


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].endswith("raised while composing config:") and len(lines) > 1:
        return f"{lines[0].partition(':')[0]}: {lines[1]}"
    return lines[0] if lines else type(error).__name__
