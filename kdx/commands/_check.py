"""Every run of a command line checked before the first begins: all that is wrong reported together, each
error with the combinations that have it.

Checks that need torch are left out for a run that the store has whole: what passed them is in its keys.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kdx.config import compose, filed, grid
from kdx.config.unused import Learned, idle
from kdx.config.wire import Order, examine_config
from kdx.core import checks, path_checks, signals
from kdx.core.collecting import imported
from kdx.core.errors import UserErrors
from kdx.runs.releases import made_again
from kdx.runs.run import checked_by_keys, refused, stored
from kdx.store.artifact import Artifact


@dataclass(frozen=True)
class Job:
    """One run of a command line: its own words, what they ask for, where the store was found to have all of
    it the key of its evaluation, and what there is to say of too little room on the disk.
    """

    words: list[str]
    order: Order
    key: str | None = None
    room: tuple[str, ...] = ()


def check_runs(words: Sequence[str], multirun: bool, *, planned: bool = False) -> list[Job]:
    """Every run of the command. planned: nothing is to be run now, and too little room hinders nothing.
    Raises UserErrors with all that is wrong."""
    combinations, everywhere = grid.combinations(words, multirun)
    unreadable = bool(everywhere)
    everywhere += grid.misplaced(words, multirun)
    jobs: list[Job] = []
    found: list[list[str]] = []
    looked: dict[str, list[str]] = {}
    learned: dict[str, Learned] = {}
    without_effect: list[dict[str, str]] = []
    for combination in combinations:
        config, slips, good_words = filed.examine(combination)
        found.append(slips)
        if config is None:
            continue
        order, wrong = examine_config(config)
        jobs.append(Job(combination, order))
        slip = unreadable or bool(slips)
        alike = json.dumps({**config, "seed": 0}, sort_keys=True)
        here = None
        if alike not in looked and not (slip or wrong):
            here = checks.attempt(unread := [], stored, order)
            jobs[-1] = replace(jobs[-1], key=here and here.key)
            if here:
                learned[alike] = Learned(rows=_rows_of(order, here))
                wrong = refused(order, learned[alike].rows)
            if unread:  # nobody can say whether anything has to be made
                looked[alike] = unread
        if not (here or slip or wrong):
            wrong = made_again(order, filed.folders_of_settings())
        if alike not in looked and not (here and checked_by_keys(order)):
            # A slip of the pen alone is reported at once; with more on the line it is worth importing torch
            # to tell all that is wrong.
            known = learned.setdefault(alike, Learned())
            looked[alike] = _inspect(order, data=not slip, learned=known) if not slip or good_words else []
            with checks.gather(looked[alike]):  # a store that has everything may be read only
                path_checks.folder("store", config["store"])
        if planned and alike in learned and (room := learned[alike].room):
            looked[alike] = [error for error in looked[alike] if error not in room]
            jobs[-1] = replace(jobs[-1], room=tuple(room))
        found[-1] = [*slips, *wrong, *looked.get(alike, [])]
        if not found[-1]:
            without_effect.append(idle(order.config, _keys(combination), learned.get(alike)))
    if everywhere or any(found):
        raise UserErrors([*everywhere, *by_combination(combinations, found)])
    # Of a sweep a setting may lie idle in some of the runs: not in all of them.
    if nowhere := [
        why for key, why in without_effect[0].items() if all(key in others for others in without_effect)
    ]:
        raise UserErrors(nowhere)
    signals.raise_if_stopped()  # one that a library swallowed while the words were put together
    return jobs


def _rows_of(order: Order, evaluated: Artifact) -> dict[str, int]:
    """Rows of each split of a run that the store has whole."""
    stage, key = evaluated.manifest["inputs"]["data"]["artifact"].split("/")
    counts: dict[str, int] = Artifact(stage, key, order.store / stage / key).json("data.json")["counts"]
    return counts


def _keys(words: Sequence[str]) -> list[str]:
    """Dotted keys that these words set; of a mapping those inside it."""
    return [
        key
        for override in compose.parse_overrides(words, [])
        for key in _inside(override.key_or_group, override.value())
    ]


def _inside(key: str, value: Any) -> list[str]:
    return (
        [inner for name, v in value.items() for inner in _inside(f"{key}.{name}", v)]
        if isinstance(value, Mapping)
        else [key]
    )


def _inspect(order: Order, *, data: bool, learned: Learned) -> list[str]:
    found: list[str] = imported("kdx.config.validate").inspect(order, data=data, learned=learned)
    return found


def by_combination(combinations: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> list[str]:
    """Each error once; one that only some combinations have begins with the words that they share, or with
    the combinations.
    """
    messages = dict.fromkeys(message for errors in found for message in errors)
    having = {
        message: frozenset(i for i, errors in enumerate(found) if message in errors) for message in messages
    }
    return [
        message if len(rows) == len(found) else f"{_which(combinations, rows)}: {message}"
        for message, rows in having.items()
    ]


def _which(combinations: Sequence[Sequence[str]], rows: frozenset[int]) -> str:
    """In words: the one or two settings that these combinations have and no others do, else the combinations
    one by one.
    """
    vary = varying(combinations)
    has = {
        word: frozenset(i for i, words in enumerate(vary) if word in words)
        for words in vary
        for word in words
    }
    for several in (1, 2):
        for words in itertools.combinations(has, several):
            if frozenset.intersection(*(has[word] for word in words)) == rows:
                return f"with {' '.join(word for word in vary[min(rows)] if word in words)}"
    from kdx.report.compare.caveats import some

    return f"with {some([' '.join(vary[i]) for i in sorted(rows)], between='; ')}"


def varying(combinations: Sequence[Sequence[str]]) -> list[list[str]]:
    """Of each combination, the words that not all of them have."""
    common = set.intersection(*(set(words) for words in combinations)) if combinations else set()
    return [[word for word in words if word not in common] for words in combinations]
