"""The words of one run: every one checked first and all errors reported together, then the configuration as
plain values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from kdx.config.compose.base import (
    UNCOMPOSED,
    composed,
    composes,
    first_line,
    overlaid,
    whole_config,
    without_layers,
)
from kdx.config.compose.members import dropped, with_members
from kdx.config.compose.own_files import broken, chosen_files, incomplete
from kdx.config.compose.parsing import BY_NUMBER, OWN_PARTS, PARAMS, parse_overrides
from kdx.config.compose.trust import overreach
from kdx.config.compose.wrong_words import not_installed, not_ours, why_unfit, wrong_number, wrong_own_part
from kdx.config.keys import misshapen, wrong_key, wrong_shape
from kdx.config.moving import without_moving
from kdx.config.options import (
    LAYERS,
    SLOTS,
    folders,
    no_address,
    option_file,
    own,
    read_option,
    wrong_option,
)
from kdx.config.words import beyond, wrong_for_hydra
from kdx.core import checks
from kdx.core.errors import UserErrors
from kdx.store.component import terms_of


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
    sorted_out = _sorted_out(words)
    chosen, errors, hydras = sorted_out.chosen, sorted_out.errors, sorted_out.hydras
    # words for Hydra itself change nothing else, so that one composition looks at them too
    options = [*chosen, *hydras] if hydras and composes([*chosen, *hydras]) else chosen
    try:
        known = composed(options)
    except UNCOMPOSED as error:
        return None, [*errors, _uncomposed(error, chosen)], 0
    typed = {override.key_or_group for override in sorted_out.values}
    if wrong_files := _wrong_files(known, chosen, typed):
        return None, [*errors, *wrong_files], 0  # nothing more is looked at: that could run what they name
    if len(options) < len(chosen) + len(hydras):
        errors += [
            f"'{checks.shown(word, bare=True)}' is unknown to Hydra"
            for word in hydras
            if not composes([*chosen, word])
        ]
    kept = []
    for override in sorted_out.values:
        path = override.key_or_group.split(".")
        if path[0] not in sorted_out.unsure:
            found = (
                wrong_number(path)
                if path[0] in BY_NUMBER
                else wrong_own_part(path) or wrong_key(_with_own_part(known, path), path, override.value())
            )
            errors += found
            kept += [] if found else [override]
    whole, kept = _laid_over(options, kept, known, errors)
    if whole is not None and (twice := dropped(whole, sorted_out.typed)):
        errors += twice
        whole = {**whole, "teacher": without_moving(whole["teacher"])}
    elif whole is not None:
        whole, wrong = with_members(whole, lambda name: _with_teacher(name, chosen, kept, typed))
        errors += wrong
    if whole is not None:
        whole, wrong = _layered(whole, typed)
        errors += wrong
    return whole, errors, len(chosen) + len(kept) if whole is not None else 0


def _layered(whole: dict[str, Any], typed: set[str]) -> tuple[dict[str, Any], list[str]]:
    """(the configuration less `loss.layers`, errors where that was typed and nothing reads it)"""
    found = without_layers(whole)
    asked = min((key for key in typed if key.startswith(f"loss.{LAYERS}")), default=None)
    if asked is None or found is whole or terms_of(found["loss"]):
        return found, []
    why = "it is what loss.features= reads, and this run has none: set loss.features=fitnet, say"
    return found, [f"{asked} can never act: {why}, or leave it out"]


def _wrong_files(known: Mapping[str, Any], chosen: Sequence[str], typed: set[str]) -> list[str]:
    """Errors of option files of the user's own, of whichever composition. known: what these words compose,
    which choose options; typed: keys that are set on the command line.
    """
    return (_odd_files(known, chosen) or overreach(chosen, typed)) if own else []


def _odd_files(known: Mapping[str, Any], chosen: Sequence[str]) -> list[str]:
    """What is wrong with what option files of the user's own compose, with their names."""
    files = chosen_files(known, chosen)
    if found := incomplete(known, files):
        return found
    named = f" ({' or '.join(str(file) for _, file in files)})" if files else ""
    return [*(f"{error}{named}" for error in misshapen(known)), *beyond("", known)]


@dataclass
class _SortedOut:
    """Words by what they are. chosen: those that choose options; values: those that set keys; typed: both, as
    they are written; hydras: those for Hydra itself; unsure: keys of words with an error, of which nothing
    more can be said.
    """

    chosen: list[str] = field(default_factory=list)
    values: list[Override] = field(default_factory=list)
    typed: list[Override] = field(default_factory=list)
    hydras: list[str] = field(default_factory=list)
    unsure: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)


def _sorted_out(words: Sequence[str]) -> _SortedOut:
    into = _SortedOut()
    for override in parse_overrides(words, into.errors):
        group = override.key_or_group
        if group.split(".")[0].split("/")[0] == "hydra":
            found = wrong_for_hydra(group, override.value(), override.package is not None)
            into.errors += found
            into.hydras += [] if found else [override.input_line]
            continue
        into.typed.append(override)
        found = not_ours(override) or beyond(group, override.value())
        if not found and group in folders():
            found = wrong_option(group, override.value()) or not_installed(group, override.value())
            into.chosen += [] if found else [override.input_line.lstrip("+")]
        elif not found:
            into.values.append(override)
        into.errors += found
        into.unsure |= {group} if found else set()
    return into


def _with_teacher(
    name: str, chosen: Sequence[str], values: Sequence[Override], typed: set[str]
) -> dict[str, Any] | list[str]:
    """What these words compose with another teacher, whose option file is looked at as that of one teacher
    is; or the errors.
    """
    words = [*(word for word in chosen if word.partition("=")[0] != "teacher"), f"teacher={name}"]
    unfit = f"the other words do not go together with the teacher '{name}'"
    try:
        if wrong_files := _wrong_files(composed(words), words, typed):
            return wrong_files
        found = overlaid(words, values)
    except UNCOMPOSED as error:
        return [broken(error) or unfit]
    return [unfit] if found is None else found


def _uncomposed(error: BaseException, chosen: Sequence[str]) -> str:
    """Why options cannot be composed."""
    if found := broken(error) or _odd_content(chosen):
        return found
    for slot, group in SLOTS.items():
        if f"'{group}@{slot}'" in str(error):
            having = "kd and those that read a pool" if group == "features" else "those that read a pool"
            return f"this loss has no slot '{slot}': {having} have it, such as loss=soft or loss=slam"
    return f"{checks.shown(' '.join(chosen), bare=True)} do not go together: {first_line(error)}"


def _odd_content(chosen: Sequence[str]) -> str | None:
    """What is wrong with what an option file holds, which may be why nothing can be composed."""
    for word in chosen:
        group, _, name = word.partition("=")
        file = option_file(group, name)
        content = read_option(file) if file else None
        if isinstance(content, list) and file and group != "experiment":
            return no_address(file)
        if isinstance(content, dict) and (wrong := wrong_shape(content)):
            return wrong
    return None


def _laid_over(
    chosen: Sequence[str], kept: list[Override], known: dict[str, Any], errors: list[str]
) -> tuple[dict[str, Any] | None, list[Override]]:
    """(the options with these values over them, the values that fit). Adds what does not fit to the errors;
    None where the others do not go together.
    """
    whole = overlaid(chosen, kept) if kept else known
    if whole is None:
        unfit = [override for override in kept if overlaid(chosen, [override]) is None]
        errors += [why_unfit(override.input_line.lstrip("+"), chosen) for override in unfit]
        kept = [override for override in kept if override not in unfit]
        whole = overlaid(chosen, kept)
    if whole is None:
        errors.append(
            f"{checks.shown(' '.join(o.input_line for o in kept), bare=True)} do not go together: "
            "one refers to another"
        )
    return whole, kept


def _with_own_part(known: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    """The known keys, with that of a part of the user's own among them, or an argument of what is no part of
    kdx."""
    node = known.get(path[0])
    if len(path) == 3 and path[1] == PARAMS and isinstance(node, Mapping) and PARAMS in node:
        return {**known, path[0]: {**node, PARAMS: {path[2]: None, **(node[PARAMS] or {})}}}
    if path[0] not in OWN_PARTS:
        return known
    own = known[path[0]] or {}
    return {**known, path[0]: {**own, path[1]: {path[2]: None, **own.get(path[1], {})}}}


def sweeper_params(words: Sequence[str]) -> dict[str, str]:
    """key -> values of the grid that a composed configuration has; empty where it cannot be composed, which
    the checks tell.
    """
    try:
        made = whole_config(words)
    except HydraException:
        return {}
    return {str(key): str(values) for key, values in (made.hydra.sweeper.get("params") or {}).items()}
