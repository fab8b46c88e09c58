"""Names of groups of runs: the keys in which they differ, written as on a command line. Pure functions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from kdx.report.entries import APART, TARGET, Entry, written

ORDER = ("dataset", "teacher", "loss", "student", "select", "augment", "recipe", "experiment")
"""Which choices are thought of first as the cause of a difference."""
LONGEST = 60

Key = tuple[bool, str]
"""(whether it is a choice of a group, its name): `loss` the option, `loss.temperature` a value."""


def names(groups: Sequence[Entry]) -> list[dict[str, str]]:
    """For each group, told by one of its runs, the words of its name: key -> value. No two are alike where no two settings are.

    Of the keys that differ, those that stood on a command line are named; then, choices first, each further one that tells apart groups
    which the names so far do not. What follows from a choice is thus not repeated: loss=slam, but not what slam sets.
    """
    if len(groups) == 1:
        only = groups[0]
        return [{key: only.choices[key] for key in ("loss", "student") if key in only.choices} or {"seed": "any"}]
    differing = [key for key in _keys(groups) if len({_value(g, key) for g in groups}) > 1]
    given = frozenset().union(*(g.given for g in groups))
    named = [key for key in differing if _spoken(key) in given]
    for key in differing:
        if key not in named and _classes(groups, named) < _classes(groups, [*named, key]):
            named.append(key)
    spoken = {name for choice, name in named if choice}
    named = [key for key in differing if key in named and (key[0] or _spoken(key) not in spoken)]  # the option says more than its class
    options = [key for key in named if key[0] or key[1].endswith(TARGET)]
    return [{_spoken(key): shorten(_text(g, key)) for key in named if _shown(g, key, groups, options, given)} for g in groups]


def join(words: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in words.items())


def shorten(text: str) -> str:
    """Long values are cut, and told apart by their digest."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 10]}…{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:6]}"


def _keys(groups: Sequence[Entry]) -> list[Key]:
    """All, in the order in which they are thought of: choices, classes, then values, those of few parts first."""
    choices = {key for g in groups for key in g.choices if key == "experiment" or key not in APART}
    leaves = {key for g in groups for key in g.settings}
    ranked = sorted(choices, key=lambda key: (ORDER.index(key) if key in ORDER else len(ORDER), key))
    return [(True, key) for key in ranked] + [(False, key) for key in sorted(leaves, key=lambda k: (not k.endswith(TARGET), k.count("."), k))]


def _value(group: Entry, key: Key) -> str | None:
    """None: it has no such key, or the value null."""
    choice, name = key
    return group.choices.get(name) if choice else json.dumps(group.settings[name], sort_keys=True) if name in group.settings else None


def _text(group: Entry, key: Key) -> str:
    choice, name = key
    return group.choices.get(name, "none") if choice else written(name, group.settings.get(name))


def _spoken(key: Key) -> str:
    return key[1].removesuffix(TARGET)


def _classes(groups: Sequence[Entry], keys: Sequence[Key]) -> int:
    """How many groups the keys tell apart."""
    return len({tuple(_value(g, key) for key in keys) for g in groups})


def _shown(group: Entry, key: Key, groups: Sequence[Entry], options: Sequence[Key], given: frozenset[str]) -> bool:
    """Options always. A value where it was set on a command line, or where groups with the same options differ in it; what a group does not
    have is said only where one with the same options has it."""
    if key in options:
        return key[0] or _value(group, key) is not None
    alike = [g for g in groups if all(_value(g, o) == _value(group, o) for o in options)]
    varies = len({_value(g, key) for g in alike}) > 1
    return varies or (_spoken(key) in given and _value(group, key) is not None)
