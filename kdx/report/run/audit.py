"""The pseudo-label audit and the rounds of a run in words and tables, from run.json alone. audit: the content
of audit.json.
"""

from __future__ import annotations

from collections.abc import Mapping

from kdx.report.run.verdict import percent


def audit_sentences(audit: Mapping | None) -> list[str]:
    """For the terminal, below the table: one line, or none where nothing was taught."""
    if not audit:
        return []
    last = audit["rounds"][-1]
    which = f" of round {len(audit['rounds'])}" if len(audit["rounds"]) > 1 else ""
    kept = f"{last['kept']:,} of {last['pool']:,} rows kept" + (
        f", {last['copies']:,} with copies" if last["copies"] != last["kept"] else ""
    )
    lines = [f"Pseudo-labels{which}: {kept}; {_of_learning(last)}."]
    weighted = last.get("believed_accuracy")
    if weighted is not None:
        lines[0] += (
            f" Counted by their weights in the loss, {last['monitors']['weight']['mean']:.2f} on average, "
            f"{percent(weighted)} are right."
        )
    if "teacher_seconds_saved" in last:
        lines.append(
            f"Answers bought: {last['asked']:,} of {last['pool']:,}; about "
            f"{last['teacher_seconds_saved']:.1f} s of the teacher saved."
        )
    return lines


def same(audited: Mapping) -> bool:
    """Whether the answers that were learned from are those to the clean pictures. audited: a round."""
    return not audited.get("learned") or audited["learned"]["of"] == "clean"


def _of_learning(audited: Mapping) -> str:
    """How right the answers were that the student learned from, and by name those to the clean pictures,
    where these are others. audited: a round.
    """
    repeats = audited["inherited"] and audited["inherited"]["wrong"]
    passes = (audited.get("learned") or {}).get("passes")
    end = (
        f"; training ended when it had seen {percent(passes, 0)} of the rows, and all are counted"
        if passes is not None and passes < 1
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
        f"of the answers learned from ({views}) "
        f"{right(learned['accuracy'], learned['expected_accuracy'])}; {clean}"
    )


def right(accuracy: float | None, expected: float | None) -> str:
    return (
        f"the teacher expected {percent(expected)} to be right"
        if accuracy is None
        else f"{percent(accuracy)} are right (expected {percent(expected)})"
    )


def rounds(results: Mapping) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of rounds; no rows where there was one round."""
    header = ["round", "validation %", "test %", "agreement with the first teacher %"]
    found = []
    for number, entry in enumerate(results.get("rounds") or [], 1):
        chosen = " (chosen)" if entry["key"] == results.get("round_chosen") else ""
        cells = [
            entry.get("validation", {}).get("accuracy"),
            entry.get("test", {}).get("accuracy"),
            entry.get("test", {}).get("agreement"),
        ]
        model = f" {entry['model']}" if "model" in entry else ""
        found.append([f"{number}{model}{chosen}", *(percent(cell).rstrip("%") for cell in cells)])
    return header, found


def chosen(results: Mapping) -> str:
    """Why the round that counts is that one."""
    if results.get("round_by") == "chain":
        return "Each network is taught by the one above it, the first by the teacher."
    if results.get("round_by") == "last":
        return (
            "The last round counts: it has learned from all the answers that were bought, also where an "
            "earlier one was better on validation."
        )
    if not all("validation" in entry for entry in results.get("rounds") or []):
        return (
            "The last round counts, as there is no validation split to choose by (dataset.validation=0.1 "
            "would make one)."
        )
    return "The round with the best validation accuracy is the one that counts."


def per_round(audit: Mapping) -> tuple[list[str], list[list[str]]]:
    """Header and rows: what was kept and how right it was, by round."""
    header = [
        "round",
        "asked",
        "kept",
        "with copies",
        "right %, learned from",
        "expected %",
        "right %, clean",
        "expected %, clean",
        "all right %, clean",
        "changed %, clean",
        "wrong ones the student repeats, clean",
    ]
    found = []
    for number, entry in enumerate(audit["rounds"], 1):
        inherited = entry["inherited"]
        repeats = f"{inherited['repeated']} of {inherited['wrong']}" if inherited else "-"
        learned = entry.get("learned") or entry
        found_shares = (
            learned["accuracy"],
            learned["expected_accuracy"],
            *(entry[k] for k in ("accuracy", "expected_accuracy", "accuracy_all", "changed")),
        )
        shares = (percent(share).rstrip("%") for share in found_shares)
        found.append(
            [
                str(number),
                f"{entry['asked']:,}",
                f"{entry['kept']:,}",
                f"{entry['copies']:,}",
                *shares,
                repeats,
            ]
        )
    return header, found


def classes(audit: Mapping) -> tuple[list[str], list[list[str]]]:
    """Header and rows: how many labels of each class the last round kept."""
    return ["class", "labels kept"], [
        [name, f"{n:,}"] for name, n in zip(audit["classes"], audit["rounds"][-1]["per_class"], strict=True)
    ]


def monitors(audit: Mapping) -> tuple[list[str], list[list[str]]]:
    """Header and rows: values that the method gave each row, beside the truth."""
    rows = [
        [
            name,
            f"{m['rows']:,}",
            _number(m["mean"]),
            _number(m.get("mean_right")),
            _number(m.get("mean_wrong")),
        ]
        for name, m in audit["rounds"][-1]["monitors"].items()
    ]
    return ["value", "rows", "mean", "for right labels", "for wrong labels"], rows


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
