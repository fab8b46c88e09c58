"""gate: whether there is anything to gain from a teacher, on validation, before a student learns from it. No
torch.

In the run's own metric: accuracy; balanced accuracy (the mean recall of the classes) where the labels'
cross-entropy is balanced, as a teacher that finds rare classes may have fewer rows right than who always
names the largest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kdx.store.artifact import Artifact
from kdx.store.store import Work
from kdx.tasks import chance
from kdx.training.runtime import Runtime


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    answers: Artifact,
    alone: Artifact | None,
    class_weights: str,
) -> None:
    """answers: of the teacher. alone: the student alone, None where it is not trained: then whoever always
    names the largest class. class_weights: none, or balanced, as in every training of the run.

    Files: gate.json, see `hold_against`.
    """
    labels = data.file("validation.labels.npy")
    y = np.load(labels) if labels.exists() else np.empty(0, int)
    if len(y) < 2:
        text = (
            f"nothing tells whether there is anything to gain from this teacher, with {len(y)} rows of "
            "validation: set dataset.validation=0.1, say"
        )
        work.write_json("gate.json", {"gain": None, "n": len(y), "text": text})
        return
    taught = np.load(answers.file("validation.npy"))[:, 0].argmax(1) == y
    if alone:
        against, other = "the student alone", np.load(alone.file("validation.right.npy"))
    else:
        most = np.bincount(y).argmax()
        against, other = f'always "{data.json("data.json")["classes"][most]}"', y == most
    work.write_json(
        "gate.json",
        hold_against(taught, other, against, _balanced(y) if class_weights == "balanced" else None),
    )


def _balanced(y: np.ndarray) -> np.ndarray:
    """(N,) classes -> (N,) weights n / (K n_c), of the K classes that are there: the weighted mean of what is
    right is the balanced accuracy.
    """
    _, which, counts = np.unique(y, return_inverse=True, return_counts=True)
    return (len(y) / (len(counts) * counts))[which]


def hold_against(
    taught: np.ndarray, other: np.ndarray, against: str, weights: np.ndarray | None = None
) -> dict[str, Any]:
    """(N,), (N,) bool: which rows the teacher and the other have right -> {"gain": whether the teacher is
    better by two standard errors of the paired difference, "metric", "teacher", "alone": of both, "against":
    whose the other is, "difference", "standard_error", "n", "text"}. Fractions.

    weights: (N,) of `_balanced`, where the metric is balanced_accuracy; None: accuracy.
    """
    n = len(taught)
    apart = taught.astype(int) - other
    difference, error = chance.mean_and_error((apart if weights is None else weights * apart).tolist())
    here, there = (float(np.average(right, weights=weights)) for right in (taught, other))
    gain = chance.better(difference, error)
    figures = (
        f"it has {here:.1%} right and {against} {there:.1%}"
        if weights is None
        else f"its balanced accuracy is {here:.1%} and that of {against} {there:.1%}"
    )
    comparison = (
        f"on {n:,} validation rows {figures}, a lead of {100 * difference:+.1f} points, "
        f"where two standard errors of the paired difference are {100 * chance.ERRORS * error:.1f}"
    )
    remedy = (
        "train it longer (teacher_pretrain.steps), give it more labels (dataset.labelled), or "
        "choose another (teacher=)"
    )
    if difference > 0:
        remedy += "; only more validation rows could show so small a lead to be real (dataset.validation)"
    text = (
        f"there is something to gain from this teacher: {comparison}"
        if gain
        else f"nothing is to be gained from this teacher: {comparison}; {remedy}"
    )
    return {
        "gain": gain,
        "metric": "accuracy" if weights is None else "balanced_accuracy",
        "teacher": here,
        "alone": there,
        "against": against,
        "difference": difference,
        "standard_error": error,
        "n": n,
        "text": text,
    }
