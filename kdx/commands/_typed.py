"""The words of a command line as they are typed, before any run is looked at: made what Hydra takes, and
checked where their configuration is only to be shown. Imports nothing that trains, so that `kdx train --help`
answers soon.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kdx.config import compose, filed, grid
from kdx.config.flags import apart
from kdx.config.options import use_own
from kdx.core.errors import UserErrors


def read_words(argv: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """(flags, the words as Hydra takes them, the same with the grid of a preset and every value of a sweep
    listed)
    """
    flags, words = apart(argv)
    use_own(flags)
    filed.use_file(flags)
    multirun = "--multirun" in flags
    most, words = grid.limit(words)
    words = grid.spread_options(compose.plus_less(compose.quote_paths(words, sweep=multirun)))
    compose.register_names()
    whole = grid.gridded(words) if multirun and grid.all_combinations(words) else words
    if multirun:
        grid.check_count(whole, most)
    for note in filed.ignored():
        print(note, file=sys.stderr)
    return (
        [flag for flag in flags if not flag.startswith(f"{filed.CONFIG_FLAG}=")],
        words,
        grid.listed(whole) if multirun and grid.all_combinations(words) else words,
    )


def check_shown(words: Sequence[str]) -> None:
    """Of words whose configuration is only to be shown. Raises UserErrors with all that is wrong with the
    words themselves.
    """
    combinations, errors = grid.combinations(words, multirun=False)
    for combination in combinations:
        errors += filed.examine(combination)[1]
    if errors:
        raise UserErrors(errors)
