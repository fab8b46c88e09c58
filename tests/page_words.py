"""What is wrong with the words of a command line, known without any work, for tests/test_pages.py and
test_page_commands.py.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import re

from page_commands import ROOT

from kdx.commands import list as listing
from kdx.config import compose, grid
from kdx.config.flags import apart
from kdx.config.options import SEVERAL

CONF = ROOT / "conf"
GROUPS = listing.option_groups(CONF)


@functools.cache
def options(group: str) -> list[str]:
    return listing.options(CONF, group)


@functools.cache
def keys_of_every_run() -> dict:
    return compose.check_words([])


def is_plain(words: list[str]) -> bool:
    """Whether the words name options that are there, and keys that the default run has and no option among
    the words replaces: such words compose.
    """
    pairs = [word.split("=", 1) for word in words]
    chosen = {key for key, _ in pairs if key in GROUPS}
    for key, value in pairs:
        node, (top, *rest) = keys_of_every_run(), key.split(".")
        if key in chosen:
            if not set(value.strip("[]").split(",")) <= set(options(key)):
                return False
            continue
        if rest and chosen & {top, "experiment"} - {"device"}:
            return False
        for part in (top, *rest):
            node = node.get(part, KeyError) if isinstance(node, dict) else KeyError
        if node is KeyError:
            return False
    return True


def slips(words: list[str]) -> list[str]:
    """As `_slips`, which pages with the same command share."""
    return _slips(tuple(words))


@functools.cache
def _slips(words: tuple[str, ...]) -> list[str]:
    """What is wrong with the words of `kdx train` or `kdx plan`. Of a sweep the first run is looked at, and
    of the others every option must be there; of launchers and searches, which are extras, too.
    """
    flags, words = apart(list(words))
    extras = [word for word in words if re.match(r"(launcher|sweeper)=", word)]
    wrong = [w for w in extras if (parts := w.split("="))[1] not in options(parts[0])]
    left_out = ("launcher=", "sweeper=", "hydra.", "json", "max_runs=")
    words = [word for word in words if not word.startswith(left_out) and "interval(" not in word]
    words = grid.spread_options(compose.plus_less(compose.quote_paths(words, sweep="--multirun" in flags)))
    if "--multirun" in flags:
        words = grid.listed(grid.gridded(words))
    runs, errors = grid.combinations(words, "--multirun" in flags)
    for word in dict.fromkeys(itertools.chain(*runs)):
        group, _, option = word.partition("=")
        if group in GROUPS and group not in SEVERAL and option not in options(group):
            wrong.append(word)
    wrong += errors
    return wrong if wrong or is_plain(runs[0]) else compose.examine_words(runs[0])[1]


def unknown_words(command: str, words: list[str]) -> list[str]:
    """Of a command with options of its own: keys and flags that it does not have."""
    module = importlib.import_module(f"kdx.commands.{command}")
    known = {option.name for option in vars(module).get("OPTIONS", ())} | set(vars(module).get("_GROUPS", ()))
    if command == "compare":  # `where loss=slam`
        words = [word for before, word in zip(["", *words], words, strict=False) if before != "where"]
    keys = [re.match(r"(?:--)?(\w+)(?:\.[\w.]+)?=", word) for word in words]
    flags = [word[2:] for word in words if word.startswith("--") and "=" not in word]
    return [key for key in (*(found[1] for found in keys if found), *flags) if known and key not in known]
