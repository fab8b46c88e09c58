"""Words read as Hydra's overrides, before anything is composed."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from kdx.config.options import SLOTS, options_of
from kdx.config.words import too_much
from kdx.core import checks

OWN_PARTS = {"controls": "controls.longer._target_=mine.Longer", "metrics": "metrics.top5._target_=mine.Top5"}
"""Nodes in which the user names parts of their own, each with a `_target_` and its arguments -> an
example."""
BY_NUMBER = {"members": "members.2.dropout=0.3"}
"""Nodes whose parts have numbers, and keys of what they are made of -> an example."""

PARAMS = "params"
"""Under `NODE.params` lie the arguments of a class that is no part of kdx: any names."""


def parse_overrides(words: Sequence[str], errors: list[str]) -> list[Override]:
    parsed = []
    for word in words:
        if found := too_much(word):
            errors.append(found)
            continue
        try:
            override = _parsed(slotted(word))
        except (HydraException, ValueError):
            errors.append(_unreadable(word))
            continue
        if override.key_or_group:
            parsed.append(override)
        else:
            errors.append(_unreadable(f"={word.partition('=')[2]}"))
    return parsed


@functools.lru_cache(maxsize=4096)
def _parsed(word: str) -> Override:
    """The same one for the same word: the runs of a sweep share most of theirs. Not to be changed."""
    return OverridesParser.create().parse_override(word)


def _unreadable(word: str) -> str:
    key, given, _ = word.partition("=")
    short = checks.shown(word, bare=True)
    if not given:
        filed = short.lower().endswith((".yaml", ".yml"))
        return f"'{short}' is no setting: write {f'--config {short}' if filed else 'key=value'}"
    if not re.match(r"^[+~]*[\w@:./-]+$", key):
        return f"'{short}' has no key that could be read: write key=value"
    key = checks.shown(key, bare=True)
    return (
        f"'{short}' cannot be read: a bracket or a quote is left open, or a value with special characters "
        f"needs quotes: \"{key}='...'\""
    )


def swept(override: Override) -> list[str]:
    """The values of a word that stands for several, in the order in which they run."""
    value = override.value()
    return (
        sorted(value.filter(options_of(override.key_or_group)))
        if isinstance(value, Glob)
        else list(override.sweep_string_iterator())
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
    return f"++{bare}" if names_own_part(bare) else slotted(bare)


def names_own_part(key: str) -> bool:
    """Whether a key is of a part that the user names, of one with a number, or an argument of what is no part
    of kdx."""
    node, dot, rest = key.partition(".")
    return bool(dot) and (node in (*OWN_PARTS, *BY_NUMBER) or rest.partition("=")[0].startswith(f"{PARAMS}."))


def slotted(word: str) -> str:
    """`loss.weights=debiased` names an option of a slot, which in Hydra's words is
    `weights@loss.weights=debiased`.
    """
    key, given, value = word.partition("=")
    return f"{SLOTS[key]}@{word}" if given and key in SLOTS and not value.startswith("{") else word
