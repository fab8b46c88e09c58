"""Options and values composed as Hydra does, each composition once."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Sequence
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
from kdx.config.options import own
from kdx.core.errors import UserErrors
from kdx.core.paths import conf_dir

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


def composed(words: Sequence[str], resolve: bool = True) -> dict[str, Any]:
    base, choices = _base(tuple(words), tuple(own))
    return OmegaConf.to_container(base, resolve=resolve) | {"choices": dict(choices)}


def overlaid(chosen: Sequence[str], values: Sequence[Override]) -> dict[str, Any] | None:
    """What Hydra composes of these options and values; None where a value does not fit.

    The options are composed once and kept, and the values laid over them as Hydra does: a tenth of the time,
    which a sweep feels. A seed comes last where nothing refers to it, so that a sweep over seeds does even
    that once.
    """
    seeds = [o for o in values if SEED.fullmatch(o.input_line.lstrip("+"))]
    rest = [o for o in values if o not in seeds]
    if seeds and "${seed" not in "".join(
        [json.dumps(composed(chosen, resolve=False)), *(o.input_line for o in rest)]
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
            new = names_own_part(key)
            OmegaConf.update(config, key, override.value(), merge=True, force_add=new)
        return OmegaConf.to_container(config, resolve=True) | {"choices": dict(choices)}
    except UNCOMPOSED:
        return None


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
    return kept | {"choices": _choices(config)}


def _choices(config: Any) -> dict[str, Any]:
    hydra = config.get("hydra") or HydraConfig.get()
    return {k: v for k, v in hydra.runtime.choices.items() if "/" not in k and "@" not in k and k not in HOW}


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].endswith("raised while composing config:") and len(lines) > 1:
        return f"{lines[0].partition(':')[0]}: {lines[1]}"
    return lines[0] if lines else type(error).__name__
