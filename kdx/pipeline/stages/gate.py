"""gate: whether there is anything to gain from a teacher, on validation, before a student learns from it.

Row by row, in the task's own metric (`Task.paired`); where classes are balanced in training in the metric
that this goes by, as a teacher that finds rare classes may have fewer rows right than who always names the
largest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from kdx.core.metric import Metric
from kdx.core.trees import picked, rows_of, tree
from kdx.pipeline.stages.answers import mapped, some_of_validation
from kdx.pipeline.stages.arrays import TRUTH, array_files, build_task, read_truth
from kdx.store.artifact import Artifact
from kdx.store.work import Work
from kdx.tasks import chance
from kdx.training.runtime import Runtime

BY_ROW = {"last": "validation.by_row.npy", "best": "validation.best_by_row.npy"}
"""What a training leaves for it."""

REMEDIES = {
    "steps": "train it longer (teacher_pretrain.steps), give it more labels (dataset.labelled), or choose "
    "another (teacher=)",
    "fitted": "give it more labels (dataset.labelled) or other settings (teacher.KEY=), or choose another "
    "(teacher=)",
    "taken": "choose another (teacher=), or train it further (teacher_pretrain.steps)",
    "writes": "choose another (teacher=, teacher.path=)",
    "finished": "choose another file (teacher.file=) or another teacher (teacher=)",
    "given": "give better answers (teacher.file=), or choose another teacher (teacher=)",
}
"""What to do, by how a teacher came to be: trained by steps, fitted at once, taken as it is, taken so to
write rows and to answer none, a finished network in a file, or answers in one."""


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    answers: Artifact,
    alone: Artifact | None,
    class_weights: str,
    which: str = "last",
    learns: str = "steps",
) -> None:
    """answers: of the teacher, or, where it gives none, the teacher itself, which has left what it attains on
    each row. alone: the student alone, None where it is not trained. The teacher is held against it, or
    against who knows nothing and gives every row the best same answer, where that is the better of the two
    or there is no student alone. class_weights: none, or balanced, as in every training
    of the run. which: of the student alone the weights that are compared, last or best. learns: how the
    teacher came to be, see `REMEDIES`.

    Files: gate.json, see `hold_against`.
    """
    truth = read_truth(data, f"validation.{TRUTH}")
    rows = 0 if truth is None else rows_of(truth)
    some = some_of_validation(answers)
    answered = np.arange(rows) if some is None else some[0]
    measured = answers.file(BY_ROW["last"])
    if len(answered) < 2 or not (some or measured.exists() or array_files(answers.path, "validation")):
        text = (
            f"nothing tells whether there is anything to gain from this teacher, with {rows} rows of "
            "validation: set dataset.validation=0.1, say"
            if rows < 2
            else _not_answered(answers, rows)
        )
        work.write_json("gate.json", {"gain": None, "n": rows, "text": text})
        return
    task = build_task(data.json("data.json"))
    if measured.exists():
        taught = np.load(measured)
    else:
        first = {leaf: found[:, 0] for leaf, found in mapped(answers.path, "validation").items()}
        if some:
            first, truth = some[1], picked(truth, torch.from_numpy(answered))
        taught = task.by_row(task.condensed(first, truth), truth).numpy()
    metric, weights = (
        task.balanced_rows(tree(np.asarray, truth)) if class_weights == "balanced" else (task.paired, None)
    )
    nothing, beaten = task.knowing_nothing(truth), None
    against, other = nothing.words, nothing.by_row.numpy()
    if alone:
        file = alone.file(BY_ROW[which])  # of weights that were never finite none are best
        student = np.load(file if file.exists() else alone.file(BY_ROW["last"]))[answered]
        beaten = float(np.average(student, weights=weights))
        if metric.gain(beaten, float(np.average(other, weights=weights))) >= 0:
            against, other, beaten = "the student alone", student, None
    whole = rows if some else None
    found = hold_against(taught, other, against, metric, weights, learns, whole, beaten)
    work.write_json("gate.json", found)


def _not_answered(answers: Artifact, rows: int) -> str:
    """Of answers that came in a file, where it lacks some of validation."""
    there = answers.json("answers.json")["given"]["validation"]
    return (
        "nothing tells whether there is anything to gain from the answers in teacher.file, which are to "
        f"{there:,} of {rows:,} validation rows: answer more of them to know"
    )


def hold_against(
    taught: np.ndarray,
    other: np.ndarray,
    against: str,
    metric: Metric,
    weights: np.ndarray | None = None,
    learns: str = "steps",
    whole: int | None = None,
    beaten: float | None = None,
) -> dict[str, Any]:
    """(N,), (N,): `Task.by_row` of the teacher and of the other -> {"gain": whether the teacher is better by
    two standard errors of the paired difference, "metric": its name, "teacher", "alone": of both, "against":
    whose the other is, "difference" (above 0 where the teacher is better), "standard_error", "n", "text"}.

    weights: (N,) of `Task.balanced_rows`, None: all rows weigh alike. learns: see `REMEDIES`. whole: rows of
    validation where these are some of them, "of"; None: these are all. beaten: what the student alone
    attains, "student_alone", where the other is not it but better; None: it is the other, or there is none.
    """
    n = len(taught)
    apart = (1 if metric.more else -1) * (taught.astype(float) - other)
    difference, error = chance.mean_and_error((apart if weights is None else weights * apart).tolist())
    here, there = (float(np.average(found, weights=weights)) for found in (taught, other))
    gain = chance.better(difference, error)
    unit = f" {metric.gains}" if metric.gains else ""
    doubt = f"{metric.scale * chance.ERRORS * error:.{metric.digits}f}"
    on = f"{n:,} validation rows" if whole is None else f"{n:,} of {whole:,} validation rows, the answered,"
    comparison = (
        f"on {on} its {metric.title} is {metric.text(here)} and that of {against} {metric.text(there)}"
        f"{_better_than(beaten, metric)}, a lead of {metric.difference(difference)}{unit}, "
        f"where two standard errors of the paired difference are {doubt}"
    )
    remedy = REMEDIES[learns]
    if difference > 0:
        more = "validation rows" if whole is None else "answered validation rows"
        remedy += f"; only more {more} could show so small a lead to be real (dataset.validation)"
    text = (
        f"there is something to gain from this teacher: {comparison}"
        if gain
        else f"nothing is to be gained from this teacher: {comparison}; {remedy}"
    )
    return {
        "gain": gain,
        "metric": metric.name,
        "teacher": here,
        "alone": there,
        "against": against,
        **({} if beaten is None else {"student_alone": beaten}),
        "difference": difference,
        "standard_error": error,
        "n": n,
        **({} if whole is None else {"of": whole}),
        "text": text,
    }


def _better_than(beaten: float | None, metric: Metric) -> str:
    """beaten: see `hold_against`."""
    return "" if beaten is None else f" (better than the student alone, {metric.text(beaten)})"
