"""gate: whether there is anything to gain from a teacher, on validation, before a student learns from it. No torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from kdx import chance
from kdx.artifact import Artifact
from kdx.runtime import Runtime
from kdx.store import Work


def run(work: Work, runtime: Runtime, *, data: Artifact, answers: Artifact, alone: Artifact | None) -> None:
    """answers: of the teacher. alone: the student alone, None where it is not trained: then whoever always names the largest class.

    Files: gate.json, see `weigh`.
    """
    labels = data.file("validation.labels.npy")
    y = np.load(labels) if labels.exists() else np.empty(0, int)
    if len(y) < 2:
        text = f"nothing tells whether there is anything to gain from this teacher, with {len(y)} rows of validation: set dataset.validation=200, say"
        work.write_json("gate.json", {"gain": None, "n": len(y), "text": text})
        return
    taught = np.load(answers.file("validation.npy"))[:, 0].argmax(1) == y
    if alone:
        against, other = "the student alone", np.load(alone.file("validation.right.npy"))
    else:
        most = np.bincount(y).argmax()
        against, other = f"always \"{data.json('data.json')['classes'][most]}\"", y == most
    work.write_json("gate.json", weigh(taught, other, against))


def weigh(taught: np.ndarray, other: np.ndarray, against: str) -> dict[str, Any]:
    """(N,), (N,) bool: which rows the teacher and the other have right -> {"gain": whether the teacher is better by two standard errors of the
    paired difference, "teacher", "alone": accuracies, "against": whose the other is, "difference", "standard_error", "n", "text"}. Fractions.
    """
    n = len(taught)
    difference, error = chance.paired(int((taught & ~other).sum()), int((other & ~taught).sum()), n)
    gain = chance.better(difference, error)
    told = (f"on {n:,} validation rows it has {taught.mean():.1%} right and {against} {other.mean():.1%}, a lead of {100 * difference:+.1f} points, "
            f"where two standard errors of the paired difference are {100 * chance.ERRORS * error:.1f}")  # fmt: skip
    remedy = "train it longer (teacher_pretrain.steps), give it more labels (dataset.labelled), or choose another (teacher=)"
    if difference > 0:
        remedy += "; only more validation rows could show so small a lead to be real (dataset.validation)"
    text = f"there is something to gain from this teacher: {told}" if gain else f"nothing is to be gained from this teacher: {told}; {remedy}"
    return {"gain": gain, "teacher": float(taught.mean()), "alone": float(other.mean()), "against": against, "difference": difference,
            "standard_error": error, "n": n, "text": text}  # fmt: skip
