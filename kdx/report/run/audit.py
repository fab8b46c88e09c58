"""The pseudo-label audit of a run in words and tables, from run.json alone. audit: the content of audit.json;
what a task without classes lacks there is left out. results: of the same run.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kdx.core.metric import Metric
from kdx.report.metric import cell
from kdx.report.run.units import percent, share
from kdx.tasks.shown import counting_metric, shown_metrics
from kdx.tasks.without_labels import WORDS


def audit_sentences(audit: Mapping | None, results: Mapping | None = None) -> list[str]:
    """For the terminal, below the table: one line, or none where nothing was taught."""
    if not audit:
        return []
    last, number = chosen_round(audit, results)
    which = f" of round {number}" if len(audit["rounds"]) > 1 else ""
    which += ", the chosen one" if number < len(audit["rounds"]) else ""
    some = last.get("looked_at") or last.get("given")
    rows = f"{last['asked']:,} answered rows" if some else f"{last['pool']:,} rows"
    kept = f"{last['kept']:,} of {rows} kept" + (
        f", {last['copies']:,} with copies" if last["copies"] != last["kept"] else ""
    )
    learning = _of_learning(last, counting_metric(results))
    lines = [f"Pseudo-labels{which}: {kept}{f'; {learning}' if learning else ''}."]
    weighted = last.get("believed_accuracy")
    if weighted is not None:
        lines[0] += (
            f" Counted by their weights in the loss, {last['monitors']['weight']['mean']:.2f} on average, "
            f"{percent(weighted)} are right."
        )
    if last.get("looked_at"):
        lines.append(
            f"The teacher answered {last['asked']:,} of {last['pool']:,} rows of the pool: those that the "
            "training, which ends within its first pass, looks at."
        )
    if last.get("given"):
        lines.append(
            f"The file of answers has {last['given']:,} of {last['pool']:,} rows of the pool; the student "
            "did "
            "not learn from the others."
        )
    if "teacher_seconds_saved" in last:
        lines.append(
            f"Answers bought: {last['asked']:,} of {last['pool']:,}; about "
            f"{last['teacher_seconds_saved']:.1f} s of the teacher saved."
        )
    return lines + _of_game(audit) + _of_estimates(audit)


def _of_game(audit: Mapping) -> list[str]:
    """RAD's game on the pool, over the rounds."""
    games = [entry["game"] for entry in audit["rounds"] if entry.get("game")]
    if not games:
        return []
    worst, best, happened = (
        [one[key] for one in games if one.get(key) is not None] for key in ("worst", "best", "happened")
    )
    sure = f" (of the best draw {sum(best) / len(best):.3f})" if len(best) == len(games) else ""
    really = f"; by the hidden truth it was {sum(happened) / len(happened):.3f}" if happened else ""
    expected = " and ".join(dict.fromkeys(f"{one['wrong']:,}" for one in games))
    return [
        f"RAD's game on this pool, a round on average: were the {expected} answers wrong that hurt most, a "
        f"bought row would gain {sum(worst) / len(worst):.3f}{sure}{really}. A row gains 1 less the "
        "student's margin, and nothing where the answer is wrong."
    ]


def _of_estimates(audit: Mapping) -> list[str]:
    """What was estimated of the teacher on the pool, against what it is."""
    found = audit.get("estimates")
    if not found:
        return []
    off = [f"{WORDS.get(name, name)} {100 * error:+.1f}" for name, error in found["errors"].items()]
    return [
        f"The teacher is right of {percent(found['accuracy'])} of the {found['n']:,} rows of this pool whose "
        f"truth is known; the estimates were off by {', '.join(off)} points."
    ]


def chosen_round(audit: Mapping, results: Mapping | None) -> tuple[Mapping, int]:
    """(what was audited of the round whose student counts, its number from 1); the last where none is said to
    be chosen."""
    audited = audit["rounds"]
    keys = [entry.get("key") for entry in (results or {}).get("rounds") or []]
    chosen = (results or {}).get("round_chosen")
    at = keys.index(chosen) if chosen in keys and len(keys) == len(audited) else len(audited) - 1
    return audited[at], at + 1


def same(audited: Mapping) -> bool:
    """Whether the answers that were learned from are those to the clean pictures. audited: a round."""
    return not audited.get("learned") or audited["learned"]["of"] == "clean"


def _of_learning(audited: Mapping, counts: Metric) -> str:
    """How right the answers were that the student learned from, and by name those to the clean pictures,
    where these are others; where none is right or wrong, what they have in the metric that counts, if the
    truth is known. audited: a round.
    """
    if "accuracy" not in audited:
        return _of_truth(audited, counts)
    repeats = audited["inherited"] and audited["inherited"]["wrong"]
    passes = (audited.get("learned") or {}).get("passes")
    end = (
        f"; training ended when it had seen {percent(passes, 0)} of the rows, and all are counted"
        if passes is not None and passes < 1 and not audited.get("looked_at")
        else ""
    )
    end += (
        (
            f"; the student repeats {audited['inherited']['repeated']:,} of the "
            f"{audited['inherited']['wrong']:,} wrong ones"
        )
        if repeats
        else ""
    )
    if same(audited):
        return f"of their answers {right(audited['accuracy'], audited['expected_accuracy'])}{end}"
    clean = f"of those to the clean pictures {right(audited['accuracy'], audited['expected_accuracy'])}{end}"
    learned = audited["learned"]
    if learned["of"] == "mixed":
        return f"mixed pictures were learned from, to which no answer is right or wrong; {clean}"
    many = "view" if learned["views"] == 1 else "views"
    views = (
        f"{learned['views']} augmented {many} a row"
        if learned["of"] == "augmented"
        else "augmented views, estimated from a sample"
    )
    return (
        f"of the answers learned from ({views}) {right(learned['accuracy'], learned['expected_accuracy'])}; "
        f"{clean}"
    )


def _of_truth(audited: Mapping, counts: Metric) -> str:
    value = (audited.get("metrics") or {}).get(counts.name)
    return "" if value is None else f"the {counts.title} of their answers is {counts.text(value)}"


def right(accuracy: float | None, expected: float | None) -> str:
    return (
        f"the teacher expected {percent(expected)} to be right"
        if accuracy is None
        else f"{percent(accuracy)} are right (expected {percent(expected)})"
    )


def _repeated(inherited: Mapping | None) -> str:
    return f"{inherited['repeated']} of {inherited['wrong']}" if inherited else "-"


def _itself(entry: Mapping) -> Mapping:
    return entry


def _learned(entry: Mapping) -> Mapping:
    return entry.get("learned") or entry


_COLUMNS: tuple[tuple[str, Callable[[Mapping], Mapping], str, Callable[[Any], str]], ...] = (
    ("asked", _itself, "asked", "{:,}".format),
    ("kept", _itself, "kept", "{:,}".format),
    ("with copies", _itself, "copies", "{:,}".format),
    ("right %, learned from", _learned, "accuracy", share),
    ("expected %", _learned, "expected_accuracy", share),
    ("right %, clean", _itself, "accuracy", share),
    ("expected %, clean", _itself, "expected_accuracy", share),
    ("all right %, clean", _itself, "accuracy_all", share),
    ("changed %, clean", _itself, "changed", share),
    ("wrong ones the student repeats, clean", _itself, "inherited", _repeated),
)
"""Of the table by round: the header, in what of a round the key is, the key, and how a value is shown."""


def per_round(audit: Mapping, results: Mapping | None = None) -> tuple[list[str], list[list[str]]]:
    """Header and rows: what was kept and how right it was, by round."""
    entries = audit["rounds"]
    shown = [column for column in _COLUMNS if any(column[2] in column[1](entry) for entry in entries)]
    found = {name for entry in entries for name in entry.get("metrics") or {}}
    measured = [metric for name, metric in shown_metrics(results).items() if name in found]
    header = ["round", *(head for head, *_ in shown), *(f"{m.labelled}, clean" for m in measured)]
    return header, [
        [
            str(number),
            *(show(of(entry).get(key)) for _, of, key, show in shown),
            *(cell(m, (entry.get("metrics") or {}).get(m.name)) for m in measured),
        ]
        for number, entry in enumerate(entries, 1)
    ]


def classes(audit: Mapping, results: Mapping | None = None) -> tuple[list[str], list[list[str]]]:
    """Header and rows: how many labels of each class the chosen round kept; no rows where there are none."""
    names, kept = audit.get("classes") or [], chosen_round(audit, results)[0].get("per_class") or []
    return ["class", "labels kept"], [[name, f"{n:,}"] for name, n in zip(names, kept, strict=True)]


def monitors(audit: Mapping, results: Mapping | None = None) -> tuple[list[str], list[list[str]]]:
    """Header and rows: values that the method gave each row, beside the truth."""
    rows = [
        [
            name,
            f"{m['rows']:,}",
            _number(m["mean"]),
            _number(m.get("mean_right")),
            _number(m.get("mean_wrong")),
        ]
        for name, m in (chosen_round(audit, results)[0].get("monitors") or {}).items()
    ]
    return ["value", "rows", "mean", "for right labels", "for wrong labels"], rows


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
