"""What pseudo-labels are worth: pure functions of the teacher's answers, of what was kept of them, and of the
truth where it is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from kdx.core.answers import Audited, Evidence
from kdx.data.npy import let_go
from kdx.tasks.metrics import calibration_error, reliability

_BINS = 10
SHIFT = 0.05
"""Mean confidence this much lower on the pool than on validation is worth a warning, where it is also more
than three standard errors.
"""
PIECE = 1 << 22
"""Numbers that are looked at together."""
_FEW = 20
"""Fewer validation rows than that tell next to nothing."""
GAP = 0.65
"""A classifier that tells labelled rows from the pool's this often (0.5 is guessing) is worth a warning.
"""


def softmax(logits: np.ndarray) -> np.ndarray:
    """(N, C) -> (N, C) float64"""
    z = logits.astype(np.float64)
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return z / z.sum(axis=1, keepdims=True)


def histogram(
    values: np.ndarray, right: np.ndarray | None, copies: np.ndarray, low: float = 0.0, high: float = 1.0
) -> dict[str, Any]:
    """(N,) values in [low, high] -> BINS equal bins: "edges", "counts" (copies counted) and, where `right`
    (N,) bool is known, "right".
    """
    edges = np.linspace(low, high, _BINS + 1)
    place = np.clip(np.digitize(values, edges[1:-1]), 0, _BINS - 1)
    found: dict[str, Any] = {
        "edges": edges.tolist(),
        "counts": np.bincount(place, copies, _BINS).astype(int).tolist(),
    }
    if right is not None:
        found["right"] = np.bincount(place, copies * right, _BINS).astype(int).tolist()
    return found


def margin_histogram(probs: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """(N, C) probabilities, (N,) classes -> histogram of the margin between the first two classes, with how
    many of each bin are right.
    """
    first, second = -np.partition(-probs, 1, axis=1)[:, :2].T
    return histogram(np.clip(first - second, 0, 1), probs.argmax(1) == truth, np.ones(len(truth)))


def labels(logits: np.ndarray, copies: np.ndarray, truth: np.ndarray | None) -> dict[str, Any]:
    """logits: (N, C) of the teacher on the pool; copies: (N,) int, how often each row is trained on, 0: left
    out; truth: (N,) or None.

    {"pool", "kept" (rows), "copies", "kept_share", "per_class" (of the labels kept), "expected_accuracy"
    (mean confidence), "accuracy" (kept), "accuracy_all", "mean_confidence" (of all N), "confidence"
    (histogram of what is kept)}; accuracies None without truth.
    """
    probs = softmax(logits)
    guess, confidence = probs.argmax(1), probs.max(1)
    right = None if truth is None else guess == truth
    total, kept = int(copies.sum()), copies > 0
    return {
        "pool": len(copies),
        "kept": int(kept.sum()),
        "copies": total,
        "kept_share": float(kept.mean()),
        "per_class": np.bincount(guess, copies, probs.shape[1]).astype(int).tolist(),
        "expected_accuracy": float((confidence * copies).sum() / total) if total else None,
        "accuracy": float((right * copies).sum() / total) if right is not None and total else None,
        "accuracy_all": None if right is None else float(right.mean()),
        "mean_confidence": float(confidence.mean()),
        "confidence": histogram(confidence[kept], None if right is None else right[kept], copies[kept]),
    }


def draws(copies: np.ndarray, views: int, passes: float) -> np.ndarray:
    """(n,) copies, (rows' stored views V, passes over them) -> (n, V): how often training showed each view of
    each row.

    As kdx.data.streams.Stream counts: a row with c copies shows c further views in each pass, and begins
    again after V. Of the last pass, which only some of the rows had, nothing is counted, unless it was the
    first.
    """
    shown = copies * max(1, int(passes + 1e-9))
    return shown[:, None] // views + (np.arange(views) < shown[:, None] % views)


def learned(logits: np.ndarray, shown: np.ndarray, truth: np.ndarray | None) -> dict[str, Any]:
    """(n, V, C) answers, (n, V) how often each was learned from (`draws`), (n,) classes or None -> {"views"
    (of each row, V), "answers" (different ones that were learned from), "accuracy" (None without truth),
    "expected_accuracy" (mean confidence)}, both means over what was learned from.
    """
    total, right, sure = int(shown.sum()), 0.0, 0.0
    step = max(1, PIECE // (logits.shape[1] * logits.shape[2]))
    for start in range(0, len(logits), step):
        part, weight = logits[start : start + step].astype(np.float32), shown[start : start + step]
        highest = part.max(2, keepdims=True)
        sure += float((weight / np.exp(part - highest).sum(2)).sum())
        if truth is not None:
            right += int((weight * (part.argmax(2) == truth[start : start + step, None])).sum())
        let_go(logits)
    return {
        "views": logits.shape[1],
        "answers": int((shown > 0).sum()),
        "accuracy": right / total if total and truth is not None else None,
        "expected_accuracy": sure / total if total else None,
    }


def weighted_accuracy(weight: np.ndarray, right: np.ndarray) -> float | None:
    """(N,) weights of the rows, nan where a row was not seen; (N,) bool -> the share of right labels, each
    counted by its weight; None where all weigh alike, or nothing."""
    weight, right = weight[seen := np.isfinite(weight)], right[seen]
    total = float(weight.sum())
    return float((weight * right).sum()) / total if total > 0 and np.ptp(weight) > 0 else None


def against_last_round(guess: np.ndarray, before: np.ndarray | None) -> float | None:
    """(N,), (N,) classes -> the share of the pool whose label changed; None in the first round."""
    return None if before is None else float((guess != before).mean())


def inherited(
    guess: np.ndarray, student: np.ndarray, kept: np.ndarray, truth: np.ndarray | None
) -> dict[str, Any] | None:
    """How many of the wrong labels that were kept the student repeats: {"wrong", "repeated", "share"}; all
    arguments (N,).
    """
    if truth is None:
        return None
    wrong = kept & (guess != truth)
    repeated = int((wrong & (student == guess)).sum())
    return {
        "wrong": int(wrong.sum()),
        "repeated": repeated,
        "share": repeated / int(wrong.sum()) if wrong.any() else None,
    }


def joined_with_truth(values: np.ndarray, right: np.ndarray | None) -> dict[str, Any]:
    """A monitor with one value a row, (N,) with nan where none was seen, beside the truth: means and
    histograms for right and wrong labels.
    """
    seen = np.isfinite(values)
    found: dict[str, Any] = {
        "rows": int(seen.sum()),
        "mean": float(values[seen].mean()) if seen.any() else None,
    }
    if right is not None:
        for name, rows in (("right", seen & right), ("wrong", seen & ~right)):
            found[f"mean_{name}"] = float(values[rows].mean()) if rows.any() else None
    if seen.any():
        high = max(1.0, float(values[seen].max()))
        low, ones = min(0.0, float(values[seen].min())), np.ones(int(seen.sum()))
        found["histogram"] = histogram(values[seen], None if right is None else right[seen], ones, low, high)
    return found


def less_sure(pool: float, rows: int, validation: float, known: int) -> bool:
    """Whether a mean confidence is lower on `rows` of the pool than on `known` of validation by what is worth
    a warning."""
    return validation - pool > max(SHIFT, 3 * (0.25 / known + 0.25 / rows) ** 0.5)


def domain_warnings(
    validation: Mapping[str, float] | None,
    pool_confidence: float,
    pool: int,
    gap: Mapping[str, float] | None,
    rows: str = "rows",
) -> list[str]:
    """Why the teacher may not know the student's data. validation: {"accuracy", "confidence", "n"} of the
    teacher. rows: what they are called.
    """
    found = []
    if validation:
        if less_sure(pool_confidence, pool, validation["confidence"], int(validation["n"])):
            found.append(
                f"the teacher is less sure of the pool ({pool_confidence:.0%} on average) than of "
                f"validation ({validation['confidence']:.0%}): the pool may hold what it has not learned"
            )
        if validation["n"] < _FEW:
            # Laplace's rule, as the plain rate is often 0 or 1 here
            rate = (validation["accuracy"] * validation["n"] + 1) / (validation["n"] + 2)
            found.append(
                f"the validation split has {validation['n']} rows: the teacher's accuracy on it, "
                f"{validation['accuracy']:.0%}, has a standard error of "
                f"{100 * (rate * (1 - rate) / validation['n']) ** 0.5:.0f} points, and the best weights and "
                f"rounds are chosen by it; give it {_FEW} rows at least, better some hundreds "
                "(dataset.validation)"
            )
        if validation["accuracy"] < 0.5:
            found.append(
                f"the teacher is right on {validation['accuracy']:.0%} of validation only: most of what it "
                "teaches may be wrong"
            )
    if gap and gap["accuracy"] - 3 * gap["standard_error"] > GAP:
        found.append(
            f"labelled {rows} and the pool differ: a linear classifier tells them apart "
            f"{gap['accuracy']:.0%} of the time (50% is guessing)"
        )
    return found


def audit(evidence: Evidence, logits_of: Callable[[Mapping[str, np.ndarray]], np.ndarray]) -> Audited:
    """What the pseudo-labels of one round were worth where rows have classes; see docs/run-json.md.
    logits_of: of stored arrays.
    """
    logits = np.asarray(logits_of(evidence.answers), np.float32)
    known = None if evidence.truth is None else np.asarray(evidence.truth)
    copies, asked = evidence.copies, evidence.asked
    found = labels(logits, copies, known)
    found["learned"] = _of_learning(evidence, logits_of)
    guess = logits.argmax(1)
    found["changed"] = against_last_round(guess, evidence.before)
    mimic = np.asarray(evidence.student).argmax(1)
    found["inherited"] = inherited(guess, mimic[asked], copies > 0, known)
    whole = None if evidence.whole is None else np.asarray(evidence.whole)
    found["student_accuracy"] = None if whole is None else float((mimic == whole).mean())
    right = None if known is None else guess == known
    weights = evidence.weights
    found["believed_accuracy"] = (
        weighted_accuracy(weights, spread_out(right, asked, len(mimic)))
        if right is not None and weights is not None
        else None
    )
    checked = evidence.validation
    found["validation_margins"] = (
        None if checked is None else margin_histogram(softmax(logits_of(checked[0])), np.asarray(checked[1]))
    )
    return Audited(found, right, found["mean_confidence"], guess if len(asked) == len(mimic) else None)


def spread_out(right: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    """(len(rows),) bool -> (n,) bool, False elsewhere"""
    whole = np.zeros(n, bool)
    whole[rows] = right
    return whole


def _of_learning(
    evidence: Evidence, logits_of: Callable[[Mapping[str, np.ndarray]], np.ndarray]
) -> dict[str, Any]:
    """What the answers were like that the student really learned from: see `learned`."""
    if evidence.learned is None:
        return dict.fromkeys(("views", "answers", "accuracy", "expected_accuracy"))
    answers, shown, truth = evidence.learned
    return learned(logits_of(answers), shown, None if truth is None else np.asarray(truth))


def of_teacher(answers: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """(V, C) logits of the first teacher on validation, (V,) classes -> its accuracy, mean confidence,
    expected calibration error, n, histogram of its confidence."""
    probs = softmax(answers)
    return {
        "accuracy": float((answers.argmax(1) == y).mean()),
        "confidence": float(probs.max(1).mean()),
        "n": len(y),
        "ece": calibration_error(reliability(torch.from_numpy(probs), torch.from_numpy(y))),
        "reliability": histogram(probs.max(1), probs.argmax(1) == y, np.ones(len(y))),
    }
