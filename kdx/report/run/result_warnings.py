"""What a reader of results must not miss: networks that guess, overfit, or answer what is no number.
Pure functions of evaluate's results, as kdx.report.run.verdict has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from kdx.core.metric import Metric
from kdx.report.metric import floor_of
from kdx.report.run.uncertainty import standard_error
from kdx.report.run.units import percent
from kdx.report.run.verdict import called, measured_on, metric, present, score, settle, which_of
from kdx.tasks import chance
from kdx.tasks.shown import CLASSIFICATION, counting_metric, shown_metrics

OVERFIT = 0.15
"""How much better than on validation a teacher may be on its training rows, as a share of the metric's range;
where that has no end, of what it is better there than who knows nothing.
"""


FEWEST = 30
"""On fewer validation rows no gap in such a metric says that a teacher overfits."""


def guessing(results: Mapping, role: str, headline: str) -> str | None:
    """Why a network is no better than who knows nothing on the test split (of classes see
    `kdx.tasks.chance.guesses`), in words; None where it is better, or not known.
    """
    value = score(results, role, headline)
    counts = (results.get("class_counts") or {}).get("test")
    if value is None:
        return None
    if not counts or floor_of(results, "test"):
        return _below_floor(results, value)
    accuracy, balanced = (
        metric(results, role, headline, "test", name) for name in ("accuracy", "balanced_accuracy")
    )
    if accuracy is None or balanced is None or not chance.guesses(accuracy, balanced, counts):
        return None
    which, share = chance.largest(counts)
    hardly = "hardly" if accuracy > share else "no"
    return (
        f'{hardly} better than always "{results["classes"][which]}" ({percent(accuracy)} of the test rows '
        f"right, and {percent(share)} are of that class; "
        f"balanced accuracy {percent(balanced)}, where guessing has {percent(1 / sum(map(bool, counts)))})"
    )


def _below_floor(results: Mapping, value: float) -> str | None:
    floor, counts = floor_of(results, "test"), counting_metric(results)
    if floor is None or counts.gain(value, floor.value) > 0:
        return None
    return (
        f"no better than {floor.words} (a test {counts.title} of {counts.text(value)}, where that has "
        f"{counts.text(floor.value)})"
    )


def result_warnings(results: Mapping, headline: str) -> list[str]:
    """What a reader must not miss, most serious first; empty when nothing is wrong.

    No better than guessing: see `guessing`. Overfitting: see `OVERFIT`.
    """
    used, counts = settle(results, headline), counting_metric(results)
    test = {role: score(results, role, used) for role in present(results)}
    judged = [role for role in test if role not in ("teacher_before", "untuned_student")]  # may know nothing
    found = [w for role in judged for w in _warnings_of(results, role, used)]
    alone, student = test.get("baseline"), test.get("student")
    if student is not None and alone is not None and counts.gain(student, alone) < 0:
        found.append(
            f"The distilled student ({counts.text(student)}) is worse than the "
            f"{called(results, 'baseline')} ({counts.text(alone)})"
        )
    if overfits(results, used):
        found.append(
            f"The teacher overfits: {counts.counted(abs(overfit_gap(results, used) or 0))} "
            f"{'more' if counts.more else 'less'} on its training rows than on validation; "
            f"{_against_overfitting(results['teacher'])}"
        )
    if used != headline and not all(map(_single, (results[role] for role in test))):
        found.append(
            "headline=best needs a validation split for every model (dataset.validation=0.1); the last "
            "weights are shown"
        )
    return found


def _against_overfitting(teacher: Mapping) -> str:
    """What helps a teacher that was trained by steps, was fitted at once, or neither."""
    if teacher.get("fitted"):
        return (
            "try settings with which it fits less closely (teacher.KEY=), another (teacher=) or more labels"
        )
    if teacher.get("steps") == 0:
        return "no step of it was made here: another teacher may be better (teacher=)"
    return "try teacher_pretrain.augment, weight decay, teacher_pretrain.patience or more labels"


def _single(role: Mapping) -> bool:
    """Whether there is but one set of its weights, as no step was made."""
    return role.get("steps") == 0 and not role.get("best")


def _warnings_of(results: Mapping, role: str, used: str) -> list[str]:
    words, counts = called(results, role), counting_metric(results)
    consequence = "labels from it are noise" if role == "teacher" else "it has learned next to nothing"
    which = which_of(role, used)
    tested = measured_on(results, role, used)
    lost = [
        m
        for name, m in shown_metrics(results).items()
        if name in tested and metric(results, role, used, "test", name) is None
    ]
    broken = "test" in ((results[role].get("not_finite") or {}).get(which) or ()) or any(map(_endless, lost))
    unmeasured = [] if broken else [m for m in lost if CLASSIFICATION.get(m.name) != m]
    found: list[str] = []
    if "given" in results[role] and not tested:  # answers of a file, which has none to the test rows
        return found
    if score(results, role, used) is None and counts not in unmeasured:
        found.append(f"The {words} has no test {counts.title}: see the log")
    elif why := guessing(results, role, used):
        found.append(f"The {words} is {why}: {consequence}")
    if broken:
        found.append(
            f"The answers of the {words} are not all finite (NaN or infinite): its figures mean nothing"
        )
    found += [
        f"The test {m.title} of the {words} is not a number (NaN or infinite): see how it is measured"
        for m in unmeasured
    ]
    return found


def _endless(one: Metric) -> bool:
    """Whether it is one of kdx's own without a bound, which only answers that are no numbers leave without a
    value: older runs do not say whether these are finite.
    """
    return CLASSIFICATION.get(one.name) == one and (one.low is None or one.high is None)


def answered_part(results: Mapping, headline: str) -> tuple[int, int] | None:
    """(rows of validation that a file of answers has, of how many) where it has some; None else."""
    found = measured_on(results, "teacher", headline, "validation")
    return (found["n"], found["of"]) if "of" in found else None


def overfit_gap(results: Mapping, headline: str) -> float | None:
    """By how much the teacher is better on its training rows than on validation; None: one is missing, or
    some rows of validation were not answered, and nobody knows whether these were the hard ones."""
    if answered_part(results, headline):
        return None
    train, validation = (score(results, "teacher", headline, split) for split in ("train", "validation"))
    return None if train is None or validation is None else counting_metric(results).gain(train, validation)


def overfits(results: Mapping, headline: str) -> bool:
    """Whether that gap is too large, see `OVERFIT`, and more than the noise of so few validation rows, see
    `_noise`. Unknown, it is not.
    """
    gap, counts = overfit_gap(results, headline), counting_metric(results)
    if gap is None or gap <= _noise(results, headline):
        return False
    if counts.low is not None and counts.high is not None:
        return gap > OVERFIT * (counts.high - counts.low)
    floor = floor_of(results, "validation")
    train = score(results, "teacher", headline, "train")
    return floor is not None and train is not None and gap > OVERFIT * counts.gain(train, floor.value) > 0


def _noise(results: Mapping, headline: str) -> float:
    """How large a gap chance alone makes: two standard errors of the teacher's value on validation, where
    they are known: of a share, and of an RMSE, whose errors are taken for normal (value / sqrt(2 n)). Of
    another metric any gap where the rows are fewer than `FEWEST`; 0 where nobody knows how many they are.
    """
    counts = counting_metric(results)
    value, n = (metric(results, "teacher", headline, "validation", name) for name in (counts.name, "n"))
    if value is None or not n:
        return 0.0
    if counts.share:
        return chance.ERRORS * standard_error(value, int(n))
    if counts.name == "rmse":
        return float(chance.ERRORS * value / math.sqrt(2 * n))
    return 0.0 if n >= FEWEST else math.inf
