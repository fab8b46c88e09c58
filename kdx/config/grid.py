"""The words of a sweep: which runs they stand for, what these are called and where they go. Hydra then runs
exactly these.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from kdx.config import compose
from kdx.config.compose import GRID, ChoiceSweep, RangeSweep
from kdx.config.options import folders, groups, options_of, own
from kdx.config.quoting import quote_paths
from kdx.config.words import wrong_in_grid
from kdx.core import checks, path_checks
from kdx.core.errors import UserError, UserErrors
from kdx.core.paths import conf_dir

LIMIT, MOST_RUNS = "max_runs", 1000
"""The word that says how many runs a sweep may have, and how many it may have without."""
ADD_M = "add -m to run them all"
"""What is said of several values without -m; kdx.api has other words for it."""
SWEEPS = Path("outputs/sweeps")


def spread_options(words: Sequence[str]) -> list[str]:
    """An option that is a folder of options stands for all of them, one run each: experiment=ablation is
    experiment=ablation/a,ablation/b.
    """
    return [_spread(word) for word in words]


def _spread(word: str) -> str:
    group, _, value = word.partition("=")
    if group not in groups() or not value:
        return word
    inside = sorted(option for option in options_of(group) if option.startswith(f"{value}/"))
    return f"{group}={','.join(inside)}" if inside and value not in options_of(group) else word


def gridded(words: Sequence[str]) -> list[str]:
    """The words of a sweep with the grid of its preset, which a file of conf/experiment has under
    `hydra.sweeper.params` (key: values, as typed).

    A key of the grid that the words name has the values that they give. The grid comes first, as Hydra has
    it, so that both number the runs alike. Raises UserError where several presets are named and one has a
    grid.
    """
    named = [w.partition("=")[2] for w in words if w.startswith("experiment=")]
    several = [
        option for option in (named[-1].split(",") if named else []) if option in options_of("experiment")
    ]
    if len(several) > 1:
        for option in several:
            if grid_of(option):
                raise UserError(
                    f"experiment={option} has a grid of its own ({', '.join(grid_of(option))}): run it "
                    "without the other experiments"
                )
    found = grid_of(several[0]) if len(several) == 1 else {}
    if errors := [error for key, values in found.items() for error in wrong_in_grid(key, values)]:
        raise UserErrors(errors)
    grid = dict(
        zip(found, quote_paths([f"{key}={values}" for key, values in found.items()], sweep=True), strict=True)
    )
    given = {key: word for word in words if (key := word.partition("=")[0]) in grid}
    return [*(grid | given).values(), *(word for word in words if word.partition("=")[0] not in grid)]


def grid_of(preset: str) -> dict[str, str]:
    """key -> values, as they are typed after `key=`; empty where the preset is one run."""
    files = (place / "experiment" / f"{preset}.yaml" for place in (*own, conf_dir()))
    if not any("sweeper" in file.read_text(encoding="utf-8") for file in files if file.is_file()):
        return {}
    return compose.sweeper_params([f"experiment={preset}"])


def limit(words: Sequence[str]) -> tuple[int, list[str]]:
    """(how many runs a sweep may have, the words without max_runs=N, which says so and is no setting of a
    run)
    """
    said = [w for w in words if w.partition("=")[0] == LIMIT]
    text = said[-1].partition("=")[2] if said else str(MOST_RUNS)
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text, re.A):
        raise UserError(
            f"{LIMIT} must be a whole number from 1 to 999999; given: {checks.shown(text, bare=True)}"
        )
    return int(text), [w for w in words if w not in said]


def check_count(words: Sequence[str], most: int) -> None:
    """Raises UserError where a sweep stands for more than `most` runs. They are counted, not listed, so that
    a slip of the pen costs nothing.
    """
    counts: dict[str, int | float] = {}
    tries = 0
    for override in compose.parse_overrides(words, []):
        counts[override.get_key_element().lstrip("+")] = _many(override)
        if override.key_or_group == "hydra.sweeper.n_trials" and isinstance(override.value(), int):
            tries = override.value()
    runs = max(tries, math.prod(counts.values()))
    if runs > most:
        of = " x ".join(
            f"{checks.shown(key, bare=True)} ({_count(count)})" for key, count in counts.items() if count > 1
        )
        of = f" ({of})" if of and tries < runs and len(of) < 100 else ""
        raise UserError(
            f"these words stand for {_count(runs)} runs{of}, and a sweep has at most {most:,} unless asked: "
            f"add {LIMIT}=N for so many, or name fewer"
        )


def _many(override: Any) -> int | float:
    """How many values a word names."""
    if not override.is_sweep_override():
        return 1
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if isinstance(value, RangeSweep):
        start, stop, step = value.start, value.stop, value.step
        if not all(map(math.isfinite, (start, stop, step))) or step == 0:
            return math.inf
        return max(0, math.ceil((Fraction(stop) - Fraction(start)) / Fraction(step)))
    return len(compose.swept(override)) if override.is_discrete_sweep() else 2


def _count(count: int | float) -> str:
    return (
        f"{count:,}"
        if count < 10**15
        else "endlessly many"
        if count == math.inf
        else f"about {Decimal(count):.0e}"
    )


def listed(words: Sequence[str]) -> list[str]:
    """Words with several values as plain lists of them, key=a,b,c, and of a key that is given twice the last:
    from here on everybody sees the same ones in the same order."""
    return list({word.partition("=")[0].lstrip("+"): _listed(word) for word in words}.values())


def _listed(word: str) -> str:
    found = compose.parse_overrides([word], [])
    if not found or not found[0].is_sweep_override() or not found[0].is_discrete_sweep():
        return word
    values = list(map(str, compose.swept(found[0])))
    return (
        quote_paths([f"{found[0].get_key_element()}={','.join(values)}"], sweep=True)[0] if values else word
    )


def jobs(words: Sequence[str], multirun: bool) -> list[list[str]]:
    """The overrides of each run: one, or every combination of a sweep. Raises UserErrors."""
    found, errors = combinations(words, multirun)
    if errors:
        raise UserErrors(errors)
    return found


def combinations(words: Sequence[str], multirun: bool) -> tuple[list[list[str]], list[str]]:
    """(the overrides of each run, errors). A word with an error is left out, so that the others can be looked
    at as well.

    Of a sweeper that searches: the runs at the ends of its ranges, as examples.
    """
    choices, errors = [], []
    grid = all_combinations(words)
    for override in compose.parse_overrides(words, errors):
        if not override.is_sweep_override():
            choices.append([override.input_line])
        elif not multirun:
            errors.append(
                f"'{override.input_line}' names several values; {ADD_M}, or quote a value that holds a comma"
            )
        elif not override.is_discrete_sweep() and not grid:
            choices.append(
                [
                    f"{override.get_key_element()}={end}"
                    for end in (override.value().start, override.value().end)
                ]
            )
        elif not override.is_discrete_sweep():
            errors.append(
                f"'{override.input_line}' names a range without steps; list the values: "
                f"{override.key_or_group}=1,2,3, or search with sweeper=optuna"
            )
        elif values := compose.swept(override):
            choices.append([f"{override.get_key_element()}={value}" for value in values])
        else:
            errors.append(f"'{override.input_line}' stands for no value, so there is nothing to run")
    return [list(c) for c in itertools.product(*choices)], errors


def swept_key(word: str) -> str | None:
    """The key of a word that stands for several values; None of any other, and of one that cannot be read."""
    found = compose.parse_overrides([word], [])
    return found[0].get_key_element().lstrip("+") if found and found[0].is_sweep_override() else None


def all_combinations(words: Sequence[str]) -> bool:
    """Whether the runs of a sweep are known beforehand: not where the words name a sweeper that searches."""
    return not any(
        w.lstrip("+").partition("=")[0] in ("sweeper", "hydra/sweeper")
        and w.partition("=")[2] not in (GRID, "basic")
        for w in words
    )


def own_words(words: Sequence[str]) -> list[str]:
    """Without those that only say how a sweep is run."""
    return [w for w in words if not re.match(r"^\+*(hydra|launcher|sweeper|publish)\b", w)]


def misplaced(words: Sequence[str], multirun: bool) -> list[str]:
    """Errors of the folders that Hydra makes: one run's is hydra.run.dir, a sweep's hydra.sweep.dir; and of
    the one place that all runs are published to."""
    errors: list[str] = []
    if "publish" in map(swept_key, words):
        errors.append("publish= takes one place for all runs: kdx publish takes them to others")
    parsed = compose.parse_overrides(words, [])
    usual = "hydra.sweep.dir" if multirun else "hydra.run.dir"
    if usual not in {override.key_or_group for override in parsed}:
        with checks.gather(errors):
            path_checks.in_utf8(usual, Path("outputs"))
    for override in parsed:
        key = override.key_or_group
        engine = key.startswith(("hydra.launcher.", "hydra.sweeper.")) or (
            key in compose.HOW and override.value() not in ("here", GRID)
        )
        if engine and not multirun:
            word = checks.shown(override.input_line, bare=True)
            errors.append(
                f"'{word}' can never act: it says how the runs of a sweep are run, "
                "and this is one run: add -m"
            )
        if key == "hydra.sweeper.direction" and override.value() != "minimize":
            errors.append(
                "hydra.sweeper.direction must stay minimize: a search makes the error of the student on "
                "validation small, also where more of its metric is better; leave it out"
            )
        if key == "hydra.run.dir" and multirun:
            errors.append(
                "hydra.run.dir is one run's folder, and -m makes several: set hydra.sweep.dir=PATH, which "
                "will hold them all"
            )
        elif key == "hydra.sweep.dir" and not multirun:
            errors.append(
                "hydra.sweep.dir is the folder of the runs of -m: set hydra.run.dir=PATH "
                "for a single run, or add -m"
            )
        elif key in ("hydra.run.dir", "hydra.sweep.dir"):
            with checks.gather(errors):
                path_checks.folder(
                    key, override.value() if isinstance(override.value(), str) else str(override.value())
                )
    return errors


def for_hydra(words: Sequence[str]) -> list[str]:
    """The words of a sweep as Hydra can take them.

    Hydra first composes what does not vary, without the options that do: with loss=slam,weighted the default
    loss, which may not have the key or the slot that another word sets. Such a key is added to it, and such a
    slot is left to the runs, as if it varied among one option.
    """
    steady = [word for word in words if not swept_key(word)]
    if compose.composes(steady):
        return list(words)
    options = [w for w in steady if w.partition("=")[0].partition("@")[0] in folders()]
    base = [w for w in options if "@" not in w]
    return [
        word
        if word not in steady or word in base or word.startswith("hydra") or compose.composes([*base, word])
        else "{}=choice({})".format(*word.split("=", 1))
        if word in options
        else f"++{word}"
        for word in words
    ]


def sweep_folder(words: Sequence[str]) -> tuple[Path, bool]:
    """(the folder of a sweep, whether the words name it)"""
    named = [
        str(o.value()) for o in compose.parse_overrides(words, []) if o.key_or_group == "hydra.sweep.dir"
    ]
    if named:
        return Path(named[-1]), True
    return SWEEPS / compose.run_name([w for w in own_words(words) if swept_key(w)]), False
