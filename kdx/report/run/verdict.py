"""What the numbers of a run say: the gain, the part of the gap closed, and what to be wary of. Pure functions
of evaluate's results.

results: {"teacher" | "baseline" | "student": {"model", "parameters", "bytes", "flops", "latency_ms", "steps",
"best_step", "last" | "best": {"train" | "validation" | "test": {"accuracy", "balanced_accuracy", "n", ...}}},
"classes": [names], "class_counts": {"test": [rows of each class], ...}}. Fractions, not per cent.
A role that was not run is absent; "best" is absent without a validation split.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from kdx.core.errors import UserError
from kdx.tasks import chance

ROLE_WORDS = {
    "teacher": "teacher",
    "noiseless": "student alone, no noise",
    "baseline": "student alone",
    "validation_labels": "student alone, validation labels too",
    "student": "distilled student",
    "ceiling": "student, all labels",
}
"""Roles in the order of the table, with the words shown for them."""
LAST_ONLY = ("validation_labels",)
"""Roles that learn from the validation rows: nothing is chosen for them, and their last weights stand beside
the others' best ones.
"""

OVERFIT = 0.15


def present(results: Mapping) -> list[str]:
    """The roles that were run, in the order of the table."""
    return [role for role in ROLE_WORDS if results.get(role)]


def settle(results: Mapping, headline: str) -> str:
    """The weights that are compared: "last", or "best" where every role has them, as a mixture would not be
    fair.
    """
    if headline not in ("last", "best"):
        raise UserError(f"headline must be 'last' or 'best', not '{headline}'")
    return (
        "best"
        if headline == "best"
        and all(results[role].get("best") for role in present(results) if role not in LAST_ONLY)
        else "last"
    )


def metric(results: Mapping, role: str, headline: str, split: str, name: str) -> float | None:
    """One number, or None where there is none (an absent role or split, a metric that was not finite)."""
    value = (((results.get(role) or {}).get(which_of(role, headline)) or {}).get(split) or {}).get(name)
    return value if value is not None and math.isfinite(value) else None


def which_of(role: str, headline: str) -> str:
    """Which weights of a role stand in a table of these."""
    return "last" if role in LAST_ONLY else headline


def summary(results: Mapping, headline: str) -> dict:
    """{"headline", "gain", "gap_closed", "gap_closed_reason"}.

    gain: test accuracy of the distilled student less that of the student alone. gap_closed: gain / (teacher -
    student alone). Both are fractions, or None where they have no meaning; the reason then says why.
    """
    used = settle(results, headline)
    teacher, alone, student = (
        metric(results, role, used, "test", "accuracy") for role in ("teacher", "baseline", "student")
    )
    gain = None if alone is None or student is None else student - alone
    if alone is None:
        reason = "there is no student alone to compare with"
    elif student is None:
        reason = "there is no distilled student"
    elif teacher is None:
        reason = "there is no teacher to compare with"
    elif teacher <= alone:
        reason = (
            f"the teacher ({percent(teacher)}) is no better than the student alone ({percent(alone)}): there "
            "is no gap to close"
        )
    else:
        reason = None
    return {
        "headline": used,
        "gain": gain,
        "gap_closed": None if reason else gain / (teacher - alone),
        "gap_closed_reason": reason,
    }


def guessing(results: Mapping, role: str, headline: str) -> str | None:
    """Why a network is no better than guessing on the test split (see `kdx.tasks.chance.guesses`), in words;
    None where it is better, or not known.
    """
    counts = (results.get("class_counts") or {}).get("test")
    accuracy, balanced = (
        metric(results, role, headline, "test", name) for name in ("accuracy", "balanced_accuracy")
    )
    if not counts or accuracy is None or balanced is None or not chance.guesses(accuracy, balanced, counts):
        return None
    which, share = chance.largest(counts)
    return (
        f'no better than always "{results["classes"][which]}" ({percent(accuracy)} of the test rows right, '
        f"and {percent(share)} are of that class; "
        f"balanced accuracy {percent(balanced)}, where guessing has {percent(1 / sum(map(bool, counts)))})"
    )


def result_warnings(results: Mapping, headline: str) -> list[str]:
    """What a reader must not miss, most serious first; empty when nothing is wrong.

    No better than guessing: see `guessing`. Overfitting: training accuracy exceeds validation accuracy by
    more than 0.15.
    """
    used = settle(results, headline)
    test = {role: metric(results, role, used, "test", "accuracy") for role in present(results)}
    found = []
    for role, value in test.items():
        consequence = "labels from it are noise" if role == "teacher" else "it has learned next to nothing"
        if value is None:
            found.append(f"The {ROLE_WORDS[role]} has no test accuracy: see the log")
        elif why := guessing(results, role, used):
            found.append(f"The {ROLE_WORDS[role]} is {why}: {consequence}")
        tested = (results[role].get(which_of(role, used)) or {}).get("test") or {}
        if "nll" in tested and metric(results, role, used, "test", "nll") is None:
            found.append(
                f"The {ROLE_WORDS[role]}'s answers are not all finite (NaN or infinite): "
                "its figures mean nothing"
            )
    alone, student = test.get("baseline"), test.get("student")
    if student is not None and alone is not None and student < alone:
        found.append(
            f"The distilled student ({percent(student)}) is worse than the student alone ({percent(alone)})"
        )
    gap = overfit_gap(results, used)
    if gap is not None and gap > OVERFIT:
        found.append(
            f"The teacher overfits: {100 * gap:.1f} points more on its training rows than on validation; "
            "try teacher_pretrain.augment, weight decay, teacher_pretrain.patience or more labels"
        )
    if used != headline:
        found.append(
            "headline=best needs a validation split for every model (dataset.validation=0.1); the last "
            "weights are shown"
        )
    return found


def overfit_gap(results: Mapping, headline: str) -> float | None:
    """The teacher's training accuracy less its validation accuracy; None where one of them is missing."""
    train = metric(results, "teacher", headline, "train", "accuracy")
    validation = metric(results, "teacher", headline, "validation", "accuracy")
    return None if train is None or validation is None else train - validation


def standard_error(accuracy: float, n: int) -> float:
    """Binomial standard error of an accuracy measured on n rows."""
    return math.sqrt(max(accuracy * (1 - accuracy), 0.0) / n)


def percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}%"


def rounded(value: float | None, digits: int) -> str:
    """ "-" where there is none, as of a figure that was not finite."""
    return "-" if value is None else f"{value:.{digits}f}"


def points(value: float, digits: int = 1) -> str:
    """A difference of fractions in percentage points, signed."""
    return f"{100 * value:+.{digits}f}"
