"""What the numbers of a run say: the gain and the part of the gap closed. Pure functions of evaluate's
results.

results: {"teacher" | "baseline" | "student": {"model", "parameters", "bytes", "flops", "latency_ms", "steps",
"best_step", "last" | "best": {"train" | "validation" | "test": {name of a metric: value, "n", ...}}},
"metric": the one that counts, ...}. Of answers that came in a file "given" says to how many rows of each
split, and what belongs to a network is absent, as is a split of which not every row has one; but where some
of validation have one, "n" is how many and "of" of how many. Values as they are measured: fractions, not per
cent. A role that was not run is absent; "best" is absent without a validation split.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from kdx.core.errors import UserError
from kdx.core.metric import Metric
from kdx.core.roles import roles_of
from kdx.report.run.uncertainty import standard_error
from kdx.tasks.shown import counting_metric

LAST_ONLY = ("validation_labels", "moved_teacher")
"""Roles that learn from the validation rows: nothing is chosen for them, and their last weights stand beside
the others' best ones.
"""


def present(results: Mapping) -> list[str]:
    """The roles that were run, in the order of the table."""
    return list(roles_of(results))


def called(results: Mapping, role: str) -> str:
    """What a role that was run is called."""
    return roles_of(results)[role].words


def settle(results: Mapping, headline: str) -> str:
    """The weights that are compared: "last", or "best" where every role has them, as a mixture would not be
    fair.
    """
    if headline not in ("last", "best"):
        raise UserError(f"headline must be 'last' or 'best', not '{headline}'")
    return (
        "best"
        if headline == "best"
        and all(results[role].get("best") is not None for role in present(results) if role not in LAST_ONLY)
        else "last"
    )


def of_table(document: Mapping) -> str:
    """The weights that the table of a run shows, "last" or "best"; of one that was not evaluated the last.
    document: its run.json."""
    results = document.get("results")
    if not isinstance(results, Mapping):
        return "last"
    asked = results.get("headline")
    return settle(results, asked if asked in ("last", "best") else "last")


def metric(results: Mapping, role: str, headline: str, split: str, name: str) -> float | None:
    """One number, or None where there is none (an absent role or split, a metric that was not finite)."""
    value = measured_on(results, role, headline, split).get(name)
    return value if value is not None and math.isfinite(value) else None


def score(results: Mapping, role: str, headline: str, split: str = "test") -> float | None:
    """`metric` of the metric that counts."""
    return metric(results, role, headline, split, counting_metric(results).name)


def which_of(role: str, headline: str) -> str:
    """Which weights of a role stand in a table of these."""
    return "last" if role in LAST_ONLY else headline


def measured_on(results: Mapping, role: str, headline: str, split: str = "test") -> Mapping:
    """All that was measured of a role on a split, of the weights that stand in a table of these; empty where
    nothing was."""
    return ((results.get(role) or {}).get(which_of(role, headline)) or {}).get(split) or {}


def _too_small(results: Mapping, used: str, counts: Metric, teacher: float, alone: float) -> str | None:
    """Why a part of so small a gap would tell nothing: of a share of rows, where the teacher's lead is no
    more than a third of the binomial standard error of one of the two."""
    rows = measured_on(results, "teacher", used).get("n")
    if not rows or not counts.share:
        return None
    error = max(standard_error(value, rows) for value in (teacher, alone))
    if counts.gain(teacher, alone) > error / 3:
        return None
    return (
        f"the teacher ({counts.text(teacher)}) is better than the "
        f"{called(results, 'baseline')} ({counts.text(alone)}) by "
        f"less than {rows} test rows can tell"
    )


def what_gained(choices: Mapping) -> dict[str, list[str]]:
    """{"gained_by": words} of a run whose student has more than answers from its teacher, or none of them:
    the student alone begins with fresh weights, so a gain is of all that stands here. {}: distillation.
    """
    begins = choices.get("init", "fresh")
    if begins in ("fresh", "previous", None):
        return {}
    return {
        "gained_by": [f"init={begins}", *([] if choices.get("recipe") == "supervised" else ["distillation"])]
    }


def summary(results: Mapping, headline: str) -> dict:
    """{"headline", "gain", "gap_closed", "gap_closed_reason"}.

    gain: by how much the distilled student is better on test than the student alone, in the unit of the
    metric that counts, above 0: better. gap_closed: gain / that of the teacher. None where they have no
    meaning; the reason then says why.
    """
    used, counts = settle(results, headline), counting_metric(results)
    teacher, alone, student = (score(results, role, used) for role in ("teacher", "baseline", "student"))
    gain = None if alone is None or student is None else counts.gain(student, alone)
    if alone is None:
        reason = "there is no student alone to compare with"
    elif student is None:
        reason = "there is no distilled student"
    elif teacher is None:
        given = (results.get("teacher") or {}).get("given")
        reason = (
            "the teacher's answers are not to every test row"
            if given
            else "there is no teacher to compare with"
        )
    elif counts.gain(teacher, alone) <= 0:
        reason = (
            f"the teacher ({counts.text(teacher)}) is no better than the "
            f"{called(results, 'baseline')} ({counts.text(alone)}): there is no gap to close"
        )
    else:
        reason = _too_small(results, used, counts, teacher, alone)
    return {
        "headline": used,
        "gain": gain,
        "gap_closed": None if reason else gain / counts.gain(teacher, alone),
        "gap_closed_reason": reason,
    }
