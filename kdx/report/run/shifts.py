"""What shifted test pictures cost, in words and tables, from run.json alone: results.shifts, and of attacks
results.attacks, is {name: {role: value of the metric that counts}}, of the last weights.
"""

from __future__ import annotations

from collections.abc import Mapping

from kdx.core.roles import roles_of
from kdx.report.metric import cell, column
from kdx.report.run.sentences import gained
from kdx.report.run.verdict import called, present, score
from kdx.tasks.shown import counting_metric

_CLEAN = "clean"


SHIFT_KINDS = ("shifts", "attacks")


def under_shifts(results: Mapping, kind: str = "shifts") -> dict[str, dict[str, float]]:
    """name -> role -> the metric that counts on test, the pictures as they are first; {} where nothing of the
    kind was asked for.
    """
    found = results.get(kind) or {}
    clean = {role: score(results, role, "last") for role in present(results)}
    return (
        {_CLEAN: {role: value for role, value in clean.items() if value is not None}, **found}
        if found
        else {}
    )


def shift_cells(
    results: Mapping, short: bool = False, kind: str = "shifts"
) -> tuple[list[str], list[list[str]]]:
    """Header and rows, one a role, one column a shift. short: briefer names of the roles."""
    found, counts = under_shifts(results, kind), counting_metric(results)
    rows = [
        [role.short if short else role.words, *(cell(counts, of.get(name)) for of in found.values())]
        for name, role in roles_of(results).items()
        if name in found.get(_CLEAN, {})
    ]
    return [column(counts, "test"), *found], rows


def shift_sentences(results: Mapping) -> list[str]:
    """What shifts and attacks cost in the mean, and what is left of the gain."""
    return [line for kind in SHIFT_KINDS for line in _sentences(results, kind)]


def _sentences(results: Mapping, kind: str) -> list[str]:
    found, counts = under_shifts(results, kind), counting_metric(results)
    shifted = [of for name, of in found.items() if name != _CLEAN]
    asked = [role for role in ("teacher", "baseline", "student") if role in found.get(_CLEAN, {})]
    roles = [role for role in asked if all(role in of for of in shifted)]
    lacking = [
        f"The {called(results, role)} has no gradient, and was not attacked."
        for role in asked
        if role not in roles
    ]
    if not shifted or not roles:
        return lacking
    mean = {role: sum(of[role] for of in shifted) / len(shifted) for role in roles}
    lost = [
        f"{called(results, role)} {counts.difference(mean[role] - found[_CLEAN][role])}" for role in roles
    ]
    unit = counts.gains or counts.unit.strip() or counts.title
    what, under = ("Attacked", "attack") if kind == "attacks" else ("Shifted", "shift")
    lines = [
        f"{what} test pictures, mean of {len(shifted)}, against clean ones, in {unit}: {', '.join(lost)}."
    ]
    if {"baseline", "student"} <= mean.keys():
        clean = counts.gain(found[_CLEAN]["student"], found[_CLEAN]["baseline"])
        lines.append(
            f"Gain of distillation under {under}: "
            f"{gained(counts, counts.gain(mean['student'], mean['baseline']))} "
            f"({counts.difference(clean)} on clean pictures)."
        )
    return lines + lacking
