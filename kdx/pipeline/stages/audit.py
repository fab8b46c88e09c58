"""audit: what the pseudo-labels of a run were worth, joined with the hidden truth where there is some.
Nothing learns from what it writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from torch.nn import functional as F

from kdx.core.levels import as_float
from kdx.core.types import Split
from kdx.pipeline.stages.answers import SAMPLE, clean_answers, learned_answers
from kdx.pipeline.stages.files import need_split, open_network
from kdx.store.artifact import Artifact
from kdx.store.store import Work
from kdx.tasks import pseudo_labels
from kdx.tasks.metrics import calibration_error, reliability
from kdx.training.predict import predict
from kdx.training.runtime import Runtime

_MOST = 2000
"""Pictures of each side that the domain gap is estimated from."""


class Round(TypedDict):
    """What a student learned from the pool: the answers, the rows that were chosen (None: all), the student
    itself.
    """

    answers: Artifact
    rows: Artifact | None
    student: Artifact


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    rounds: Sequence[Round],
    seed: int,
) -> None:
    """rounds: in order. Files: audit.json, see docs/run-json.md."""
    about = data.json("data.json")
    pool = need_split(data, "unlabelled", runtime)
    path = data.file("truth.npy")
    truth = np.load(path) if path.exists() else None
    truth = truth if truth is not None and len(truth) == len(pool) and (truth >= 0).all() else None
    found: list[dict[str, Any]] = []
    before = None
    for number, entry in enumerate(rounds):
        audited, before = _of_round(entry, data, pool, truth, before, runtime)
        found.append(audited)
        work.progress(number + 1, len(rounds), f"round {number + 1}")
    validation = _of_teacher(data, rounds[0]["answers"])
    gap = pseudo_labels.domain_gap(thumbnails(need_split(data, "labelled", runtime)), thumbnails(pool), seed)
    confidence = found[0]["mean_confidence"]
    for caution in pseudo_labels.domain_warnings(validation, confidence, found[0]["asked"], gap):
        work.note(caution, "warning")
    work.write_json(
        "audit.json",
        {
            "classes": about["classes"],
            "truth_known": truth is not None,
            "teacher": validation,
            "domain_gap": gap,
            "rounds": found,
        },
    )


def _of_round(
    entry: Round,
    data: Artifact,
    pool: Split,
    truth: np.ndarray | None,
    before: np.ndarray | None,
    runtime: Runtime,
) -> tuple[dict[str, Any], np.ndarray | None]:
    """(what is said of one round, the teacher's classes of the whole pool)"""
    answers, student = entry["answers"], entry["student"]
    copies = (
        np.ones(len(pool), int)
        if entry["rows"] is None
        else np.bincount(np.load(entry["rows"].file("rows.npy")), minlength=len(pool))
    )
    whole = clean_answers(answers)
    asked = (
        np.arange(len(pool))
        if whole is not None
        else np.flatnonzero(np.load(answers.file("places.npy")) >= 0)
    )
    logits = np.asarray(
        whole if whole is not None else np.load(answers.file("unlabelled.npy"))[:, 0], np.float32
    )
    known = None if truth is None else truth[asked]
    audited = {
        "answers": answers.key,
        "asked": len(asked),
        **pseudo_labels.labels(logits, copies[asked], known),
        "pool": len(pool),
    }
    audited["learned"] = _of_learning(answers, student, copies, truth)
    guess = logits.argmax(1)
    audited["changed"] = pseudo_labels.against_last_round(guess, before if whole is not None else None)
    mimic = predict(runtime.place(open_network(student)), pool, runtime).argmax(1).numpy()
    audited["inherited"] = pseudo_labels.inherited(guess, mimic[asked], copies[asked] > 0, known)
    audited["student_accuracy"] = None if truth is None else float((mimic == truth).mean())
    right = None
    if known is not None:
        right = np.zeros(len(pool), bool)
        right[asked] = guess == known
    weights = student.file("rows.weight.npy")
    audited["believed_accuracy"] = (
        pseudo_labels.weighted_accuracy(np.load(weights), right)
        if right is not None and weights.exists()
        else None
    )
    audited["monitors"] = {
        p.name.split(".")[1]: pseudo_labels.joined(np.load(p), right)
        for p in sorted(student.path.glob("rows.*.npy"))
    }
    checked = on_validation(data, answers, slot=-1)
    audited["validation_margins"] = None if checked is None else pseudo_labels.margin_histogram(*checked)
    audited["curves"] = student.json("curves.json") if student.file("curves.json").exists() else {}
    if len(asked) < len(pool):
        pace = answers.manifest["seconds"] / sum(len(np.load(p, mmap_mode="r")) for p in _answered(answers))
        audited["teacher_seconds_saved"] = pace * (len(pool) - len(asked))
    return audited, guess if whole is not None else None


def _of_learning(
    answers: Artifact, student: Artifact, copies: np.ndarray, truth: np.ndarray | None
) -> dict[str, Any]:
    """What the answers were like that the student really learned from: see `kdx.tasks.pseudo_labels.learned`.
    "of": clean, augmented, a sample of these, or mixed, where no answer belongs to a row and nothing can be
    known ."""
    found = learned_answers(answers)
    if found is None:
        return {
            "of": "mixed",
            "passes": None,
            "views": None,
            "answers": None,
            "accuracy": None,
            "expected_accuracy": None,
        }
    rows, logits = found
    passes = student.json("summary.json")["passes"].get("unlabelled", 1)
    shown = pseudo_labels.draws(copies[rows], logits.shape[1], passes)
    about = answers.json("answers.json")
    return {
        "of": "sample" if SAMPLE in about["splits"] else "augmented" if about["moved"] else "clean",
        "passes": passes,
        **pseudo_labels.learned(logits, shown, None if truth is None else truth[rows]),
    }


def _answered(answers: Artifact) -> list[Path]:
    """The files that hold answers of the teacher; those that are bought have one view."""
    return [answers.file(f"{name}.npy") for name in answers.json("answers.json")["splits"]]


def _of_teacher(data: Artifact, answers: Artifact) -> dict[str, Any] | None:
    """The first teacher on validation: accuracy, mean confidence, expected calibration error, n, histogram of
    its confidence.
    """
    found = on_validation(data, answers)
    if found is None:
        return None
    import torch

    probs, y = found
    return {
        "accuracy": answers.json("answers.json")["validation_accuracy"],
        "confidence": float(probs.max(1).mean()),
        "n": len(y),
        "ece": calibration_error(reliability(torch.from_numpy(probs), torch.from_numpy(y))),
        "reliability": pseudo_labels.histogram(probs.max(1), probs.argmax(1) == y, np.ones(len(y))),
    }


def on_validation(data: Artifact, answers: Artifact, slot: int = 0) -> tuple[np.ndarray, np.ndarray] | None:
    """((V, C) probabilities of the teacher, (V,) classes); None without a validation split. slot: 0 for the
    clean pictures, -1 for those that the methods estimate from."""
    if "validation" not in answers.json("answers.json")["splits"]:
        return None
    return pseudo_labels.softmax(np.load(answers.file("validation.npy"))[:, slot]), np.load(
        data.file("validation.labels.npy")
    )


def thumbnails(split: Split) -> np.ndarray:
    """(at most MOST, D) float64: pictures averaged down to 8x8 at most, evenly spread over the split."""
    rows = np.unique(np.linspace(0, len(split) - 1, min(len(split), _MOST)).astype(int))
    pictures = as_float(split.images[rows].cpu())
    height, width = (min(8, side) for side in pictures.shape[-2:])
    return F.adaptive_avg_pool2d(pictures, (height, width)).flatten(1).double().numpy()
