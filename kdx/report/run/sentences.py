"""What the table of a run means, in sentences, from its results alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

from kdx.core.metric import Metric
from kdx.report.metric import finer
from kdx.report.run.bill import bill_sentences
from kdx.report.run.prequential import chunk_gain
from kdx.report.run.privacy import privacy_sentences
from kdx.report.run.result_warnings import answered_part, guessing, overfit_gap
from kdx.report.run.sessions import session_gains
from kdx.report.run.uncertainty import standard_error, unseen_share
from kdx.report.run.units import percent
from kdx.report.run.verdict import called, metric, present, score, settle, summary
from kdx.tasks import chance
from kdx.tasks.shown import counting_metric

SKEWED = 1.5
"""How many times its even share the largest class has where balanced accuracy is reported beside the table
too.
"""


def test_rows(results: Mapping, headline: str) -> int:
    """How many test rows the results are of; the most of any role, 0 where they do not say."""
    used = settle(results, headline)
    return max((int(metric(results, role, used, "test", "n") or 0) for role in present(results)), default=0)


def gained(counts: Metric, value: float) -> str:
    """A gain with its sign and what it is counted in: "+3.8 points", "+0.300"."""
    return f"{counts.difference(value)} {counts.gains or counts.unit.strip()}".rstrip()


def result_sentences(results: Mapping, headline: str) -> list[str]:
    """What the table means: the gain with a caution, the part of the gap closed, the teacher's
    train-validation gap.
    """
    summarised = summary(results, headline)
    used, counts = summarised["headline"], finer(counting_metric(results), test_rows(results, headline))
    return [
        *_of_gain(results, summarised, counts),
        *_of_gap(results, summarised, counts),
        *bill_sentences(results, summarised["gain"], counts),
        *_of_validation(results, used, counts),
        *_of_ceiling(results, used, counts),
        *_of_balance(results, used),
        *([] if summarised["gain"] is None else _caution(results, used, counts)),
        *_of_teacher(results, used),
        *_of_second_task(results),
        *_of_tuning(results, used, counts),
        *_of_members(results, used, counts),
        *privacy_sentences(results),
    ]


_BEFORE = {
    "untuned_student": "before its fine-tuning",
    "probed_student": "whose last layer alone has learned",
}
"""role -> of which teacher that student learned."""


def _of_second_task(results: Mapping) -> list[str]:
    """What the teacher's head for another task attains."""
    found = (results.get("teacher") or {}).get("beside") or {}
    return [
        f"The teacher's second task ({name}): R² {figures.get('r2', math.nan):.3f} (0: as good as the mean)"
        + (f", RMSE {figures['rmse']:.4g}" if "rmse" in figures else "")
        + f", on {figures.get('rows', 0):,.0f} validation rows after the last step; the student learns the "
        "first task alone."
        for name, figures in found.items()
    ]


def _of_tuning(results: Mapping, used: str, counts: Metric) -> list[str]:
    """What fine-tuning made of a teacher that came with weights, and of its student."""
    before, after = (score(results, role, used) for role in ("teacher_before", "teacher"))
    if before is None or after is None:
        return []
    fresh = " (its last layer was a new one, which knew nothing)" if _new_head(results) else ""
    told = [
        f"Fine-tuning took the teacher from {counts.text(before)}{fresh} to {counts.text(after)} of test "
        f"{counts.title}."
    ]
    students = [told_by for role in _BEFORE if (told_by := _student_gained(results, role, used, counts))]
    if not students and score(results, "student", used) is not None:
        told[0] += _how_to_compare(results, used)
    return [*told, *students]


def _new_head(results: Mapping) -> bool:
    return bool(results["teacher_before"].get("new_head"))


def _how_to_compare(results: Mapping, used: str) -> str:
    """What tells whether the student gains by it: of the two options those that such a run can have."""
    could = results["teacher_before"].get("could_teach")  # older runs do not say
    known = could if isinstance(could, list) else [role for role in _BEFORE if not _new_head(results)]
    guesses = ", which is no better than guessing here," if guessing(results, "teacher_before", used) else ""
    ways = {
        "untuned_student": f"untuned_student=true distils it from the teacher before{guesses} too",
        "probed_student": "probed_student=true distils it from one whose last layer alone has learned too",
    }
    shown = [words for role, words in ways.items() if role in known]
    return f" Whether the student gains by it: {', and '.join(shown)}; over seeds." if shown else ""


def _student_gained(results: Mapping, role: str, used: str, counts: Metric) -> str | None:
    """Whether the student is better than that of the teacher before, and by how much."""
    student, other = score(results, "student", used), score(results, role, used)
    if student is None or other is None:
        return None
    gain, n = counts.gain(student, other), int(metric(results, role, used, "test", "n") or 0)
    figures = (
        f"{counts.text(student)}, and {counts.text(other)} from the teacher {_BEFORE[role]}: "
        f"{gained(counts, gain)} of test {counts.title}"
    )
    error = math.hypot(*(standard_error(value, n) for value in (student, other))) if counts.share and n else 0
    if abs(gain) <= 2 * error:
        return (
            f"Whether fine-tuning the teacher helped the student, {n} test rows of one run cannot tell: it "
            f"has {figures}, within two standard errors ({counts.counted(2 * error, 1)})."
        )
    caution = (
        "; the teacher before is no better than guessing here, so this tells what a teacher that knows "
        "nothing costs, and not what fine-tuning adds to one that knows something"
        if role == "untuned_student" and guessing(results, "teacher_before", used)
        else ""
    )
    did = "helped" if gain > 0 else "harmed"
    return f"Fine-tuning the teacher {did} the student: it has {figures}{caution}."


def _of_members(results: Mapping, used: str, counts: Metric) -> list[str]:
    """What an ensemble is, and how its members fare alone."""
    members = results.get("members") or []
    scores = [score({**results, "teacher": member}, "teacher", used) for member in members]
    alone = [value for value in scores if value is not None]
    if not alone:
        return []
    low, high = sorted((min(alone), max(alone)), reverse=not counts.more)
    fare = counts.text(low) if low == high else f"{counts.text(low)} to {counts.text(high)}"
    combined = (results["teacher"].get("aggregate") or {}).get("name")
    how = f"become one by aggregate={combined}" if combined else "are averaged"
    return [
        f"The teacher is an ensemble of {len(members)}, whose answers {how}: alone its members have "
        f"{fare} on the test rows."
    ]


def _of_gain(results: Mapping, summarised: Mapping, counts: Metric) -> list[str]:
    if summarised["gain"] is None:
        return []
    if results.get("sessions"):
        return session_gains(results, summarised["gain"])
    if results.get("prequential"):
        return chunk_gain(results, summarised["gain"])
    better = "" if counts.more else f" Less {counts.title} is better, so a gain above 0 is an improvement."
    what = results.get("gained_by") or ["distillation"]
    if results.get("privacy"):
        what = ["released labels over as many true ones"]
    words = f"Gain of {' and '.join(what)}: {gained(counts, summarised['gain'])} of test {counts.title}."
    begun = f" The {called(results, 'baseline')} begins with fresh weights." if "gained_by" in results else ""
    return [f"{words}{begun}{better}{of_rounds(results)}"]


def _of_gap(results: Mapping, summarised: Mapping, counts: Metric) -> list[str]:
    if results.get("privacy"):
        return []
    if summarised["gap_closed"] is not None:
        teacher, alone = (score(results, r, summarised["headline"]) for r in ("teacher", "baseline"))
        return [
            f"Part of the gap to the {called(results, 'teacher')} closed: "
            f"{percent(summarised['gap_closed'], 0)} of {counts.counted(counts.gain(teacher, alone))}."
        ]
    if summarised["gain"] is None or results.get("sessions") or results.get("prequential"):
        return []
    return [f"Part of the gap to the teacher closed: none to speak of, as {summarised['gap_closed_reason']}."]


def of_rounds(results: Mapping) -> str:
    """What favours a student that was the best of several rounds on validation; empty where it is no such
    student.
    """
    rounds = results.get("rounds") or []
    if (
        len(rounds) < 2
        or results.get("round_by") != "validation"
        or not all("validation" in entry for entry in rounds)
    ):
        return ""
    return (
        f" It is the best of {len(rounds)} rounds on validation, and the {called(results, 'baseline')} is "
        "one run: some of this may be the choice."
    )


def _of_validation(results: Mapping, used: str, counts: Metric) -> list[str]:
    """How the distilled student fares beside one that just learned from the validation labels."""
    student, both = (score(results, role, used) for role in ("student", "validation_labels"))
    if student is None or both is None:
        return []
    return [
        "Beside the student alone that learned from the validation labels too (to its last step, nothing "
        f"validates it): {gained(counts, counts.gain(student, both))}."
    ]


def _of_ceiling(results: Mapping, used: str, counts: Metric) -> list[str]:
    """What the hidden labels of the pool bring, and how much of that the teacher's answers brought."""
    alone, student, best = (score(results, role, used) for role in ("baseline", "student", "ceiling"))
    if best is None or alone is None or student is None:
        return []
    whole = counts.gain(best, alone)
    if counts.gain(student, best) > 0:
        part = "the teacher's answers brought more, as those of a good, larger network can"
    else:
        part = (
            f"the teacher's answers brought {percent(counts.gain(student, alone) / whole, 0)} of that"
            if whole > 0
            else "there was nothing to gain from them"
        )
    return [
        f"The true labels of the pool bring {gained(counts, whole)} over the "
        f"{called(results, 'baseline')}: {part}."
    ]


def is_skewed(results: Mapping) -> bool:
    """Whether one class has many of the test rows."""
    rows = (results.get("class_counts") or {}).get("test") or [1]
    return chance.largest(rows)[1] * len(rows) >= SKEWED


def _of_balance(results: Mapping, used: str) -> list[str]:
    """Where one class has many of the test rows: what accuracy hides."""
    if not is_skewed(results):
        return []
    which, share = chance.largest(results["class_counts"]["test"])
    balances = [
        f"{called(results, role)} {percent(value)}"
        for role in present(results)
        if (value := metric(results, role, used, "test", "balanced_accuracy")) is not None
    ]
    if not balances:
        return []
    return [
        (
            f'Balanced test accuracy, the mean recall of the classes, as "{results["classes"][which]}" has '
            f"{percent(share)} of the rows: {', '.join(balances)}."
        )
    ]


def _caution(results: Mapping, used: str, counts: Metric) -> list[str]:
    """How far a figure of one run on so many rows can be trusted; of a share of them the error is known."""
    n = next((n for role in present(results) if (n := metric(results, role, used, "test", "n"))), None)
    if not n:
        return []
    several = "one seed: compare several with -m seed=0,1,2."
    if not counts.share:
        return [f"Caution: {n} test rows, and {several}"]
    values = [score(results, role, used) for role in ("baseline", "student")]
    error = max(standard_error(value, n) for value in values if value is not None)
    if not error:  # the binomial error of all or none is 0, and says nothing
        return [
            f"Caution: {n} test rows, all or none of them right, so each {counts.title} is good to about "
            f"{counts.counted(unseen_share(n), 1)} (95%, rule of three); {several}"
        ]
    return [
        f"Caution: {n} test rows, so each {counts.title} is good to about {counts.counted(error, 1)} (one "
        f"binomial standard error); {several}"
    ]


def _of_teacher(results: Mapping, used: str) -> list[str]:
    if part := answered_part(results, used):
        value, counts = score(results, "teacher", used, "validation"), counting_metric(results)
        shown = "-" if value is None else counts.text(value)
        return [
            f"The teacher on validation (*): {shown}, on {part[0]:,} of {part[1]:,} rows, those that its "
            "file answers, which may be the easy ones; all others are measured on every row."
        ]
    gap, counts = overfit_gap(results, used), counting_metric(results)
    train, validation = (score(results, "teacher", used, split) for split in ("train", "validation"))
    if gap is None or train is None or validation is None:
        return []
    return [
        f"Teacher: {counts.text(train)} on its training rows, {counts.text(validation)} on validation (a gap "
        f"of {counts.counted(gap)})."
    ]
