"""Accuracies on shifted test pictures in words and tables, from run.json alone: results.shifts is {name:
{role: accuracy}}, of the last weights.
"""

from __future__ import annotations

from collections.abc import Mapping

from kdx.report.run.verdict import ROLE_WORDS, metric, percent, present

_CLEAN = "clean"


def accuracies(results: Mapping) -> dict[str, dict[str, float]]:
    """name -> role -> accuracy on test, the pictures as they are first; {} where no shift was asked for."""
    found = results.get("shifts") or {}
    clean = {role: metric(results, role, "last", "test", "accuracy") for role in present(results)}
    return (
        {_CLEAN: {role: value for role, value in clean.items() if value is not None}, **found}
        if found
        else {}
    )


def shift_cells(results: Mapping, names: Mapping[str, str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, one a role, one column a shift. names: role -> words."""
    found = accuracies(results)
    rows = [
        [names[role], *(percent(of.get(role)).rstrip("%") for of in found.values())]
        for role in ROLE_WORDS
        if role in found.get(_CLEAN, {})
    ]
    return ["test %", *found], rows


def shift_sentences(results: Mapping) -> list[str]:
    """What the shifts cost in the mean, and what is left of the gain."""
    found = accuracies(results)
    roles = [role for role in ("teacher", "baseline", "student") if role in found.get(_CLEAN, {})]
    shifted = [of for name, of in found.items() if name != _CLEAN]
    if not shifted or not roles:
        return []
    mean = {role: sum(of[role] for of in shifted) / len(shifted) for role in roles}
    lost = [f"{ROLE_WORDS[role]} {100 * (mean[role] - found[_CLEAN][role]):+.1f}" for role in roles]
    lines = [
        f"Shifted test pictures, mean of {len(shifted)}, against clean ones, in points: {', '.join(lost)}."
    ]
    if {"baseline", "student"} <= mean.keys():
        clean = found[_CLEAN]["student"] - found[_CLEAN]["baseline"]
        lines.append(
            f"Gain of distillation under shift: {100 * (mean['student'] - mean['baseline']):+.1f} points "
            f"({100 * clean:+.1f} on clean pictures)."
        )
    return lines
