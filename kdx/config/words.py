"""The words of a command line, apart from Hydra: what is not even read, values that nothing could use, and
what only the command line may say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kdx.core.checks import MOST, shown

HYDRAS, HYDRAS_BELOW = ("hydra.run.dir", "hydra.sweep.dir"), ("hydra.launcher.", "hydra.sweeper.")
"""What can be set of Hydra's own node."""
GRID_KEY = re.compile(r"[A-Za-z_]\w*(\.\w+)*", re.A)
NOT_IN_GRID = ("allow", "store", "publish", "hydra", "launcher", "sweeper", "max_runs", "dataset.download")
DEEPEST_BRACKETS, LONGEST_WORD = 16, 100_000
MOST_VALUES, _LONGEST_TEXT = 1000, 4096
LONG_NUMBER = re.compile(r"(?<![\w/.'\"-])-?\d[\d_]{4095,}")
"""More digits than Python reads; a text is no longer than that either."""


def too_much(word: str) -> str | None:
    """Why a word is not even read: it is longer, or has more digits or brackets within brackets, than any
    setting needs.
    """
    depth = deepest = 0
    for letter in word:
        depth += (letter in "[{(") - (letter in "]})")
        deepest = max(deepest, depth)
    if deepest > DEEPEST_BRACKETS:
        return (
            f"'{shown(word, bare=True)}' has {deepest} brackets within brackets, and no "
            "setting is made of so many"
        )
    if number := LONG_NUMBER.search(word):
        return (
            f"'{shown(word, bare=True)}' holds a number of {len(number[0]):,} digits, which is too long: "
            f"numbers have 64 bits, at most {MOST}"
        )
    if len(word) > LONGEST_WORD:
        return f"'{shown(word, bare=True)}' is too long to be a setting: {LONGEST_WORD:,} letters at most"
    return None


def beyond(key: str, value: Any) -> list[str]:
    """Errors of a value that nothing here could use, whatever its key: the first door that every value goes
    through.

    Whole numbers have 64 bits, texts can be written down, lists are no longer than a person would type.
    """
    if isinstance(value, Mapping):
        odd = [name for name in value if not isinstance(name, str)]
        return (
            [f"{key} has a key that is no name: {shown(odd[0])}"]
            if odd
            else [
                error for name, inner in value.items() for error in beyond(f"{key}.{name}".lstrip("."), inner)
            ]
        )
    if isinstance(value, list):
        if len(value) > MOST_VALUES:
            return [f"{key} has {len(value):,} values, and {MOST_VALUES:,} are the most that a list takes"]
        return list(dict.fromkeys(error for inner in value for error in beyond(key, inner)))
    if isinstance(value, int) and abs(value) > MOST:
        return [f"{key} must be a number of 64 bits, at most {MOST}; given: {shown(value)}"]
    if isinstance(value, str) and (
        "\0" in value or len(value) > _LONGEST_TEXT or not value.isascii() and _torn(value)
    ):
        return [
            (
                f"{key} must be a text of at most {_LONGEST_TEXT:,} letters in UTF-8, without a zero byte; "
                f"given: {shown(value)}"
            )
        ]
    return []


def _torn(text: str) -> bool:
    """Whether it holds half a letter, as bytes that are no UTF-8 become."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def wrong_for_hydra(key: str, value: Any, placed: bool) -> list[str]:
    """Errors of a word for Hydra's own node, of which few keys are the user's: the others would change how
    runs are made here.
    """
    if key in ("hydra/launcher", "hydra/sweeper"):
        return [f"'{key}' is chosen by {key.partition('/')[2]}=NAME: kdx list {key.partition('/')[2]}"]
    if (
        placed
        or not (key in HYDRAS or key.startswith(HYDRAS_BELOW))
        or "_target_" in key
        or isinstance(value, Mapping)
    ):
        return [
            (
                f"'{shown(key, bare=True)}' is Hydra's own: of its keys {', '.join(HYDRAS)}, "
                "hydra.launcher.KEY and hydra.sweeper.KEY can be set"
            )
        ]
    return beyond(key, value)


def wrong_in_grid(key: str, values: Any) -> list[str]:
    """Errors of a preset's grid, which is read as words: it sets what runs compute, and not what the command
    line alone may say.
    """
    first = key.partition(".")[0]
    if not GRID_KEY.fullmatch(key) or first in NOT_IN_GRID or key in NOT_IN_GRID or "_target_" in key:
        return [
            (
                f"the grid of a preset (hydra.sweeper.params) cannot set '{shown(key, bare=True)}': only the "
                "command line can"
            )
        ]
    if "${" in str(values):
        return [
            (
                f"the grid of a preset (hydra.sweeper.params) gives '{key}' a reference to something else "
                f"({shown(str(values), bare=True)}): list its values"
            )
        ]
    return []
