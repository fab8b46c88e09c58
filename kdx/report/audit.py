"""The pseudo-label audit and the rounds of a run in words and tables, from run.json alone. audit: the content of audit.json."""

from __future__ import annotations

from collections.abc import Mapping

from kdx.report.judge import percent


def sentences(audit: Mapping | None) -> list[str]:
    """For the terminal, below the table: one line, or none where nothing was taught."""
    if not audit:
        return []
    last = audit["rounds"][-1]
    parts = [f"{last['kept']:,} of {last['pool']:,} kept"]
    if last["copies"] != last["kept"]:
        parts.append(f"{last['copies']:,} with copies")
    if last["accuracy"] is not None:
        parts.append(f"{percent(last['accuracy'])} right")
    parts.append(f"the teacher expected {percent(last['expected_accuracy'])}")
    if last["inherited"] and last["inherited"]["wrong"]:
        parts.append(f"the student repeats {last['inherited']['repeated']} of the {last['inherited']['wrong']} wrong ones")
    which = f" of round {len(audit['rounds'])}" if len(audit["rounds"]) > 1 else ""
    lines = [f"Pseudo-labels{which}: {', '.join(parts)}."]
    if "teacher_seconds_saved" in last:
        lines.append(f"Answers bought: {last['asked']:,} of {last['pool']:,}; about {last['teacher_seconds_saved']:.1f} s of the teacher saved.")
    return lines


def rounds(results: Mapping) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of rounds; no rows where there was one round."""
    header = ["round", "validation %", "test %", "agreement with the first teacher %"]
    found = []
    for number, entry in enumerate(results.get("rounds") or [], 1):
        chosen = " (chosen)" if entry["key"] == results.get("round_chosen") else ""
        cells = [entry.get("validation", {}).get("accuracy"), entry.get("test", {}).get("accuracy"), entry.get("test", {}).get("agreement")]
        model = f" {entry['model']}" if "model" in entry else ""
        found.append([f"{number}{model}{chosen}", *(percent(cell).rstrip("%") for cell in cells)])
    return header, found


def chosen(results: Mapping) -> str:
    """Why the round that counts is that one."""
    if results.get("round_by") == "chain":
        return "Each network is taught by the one above it, the first by the teacher."
    if results.get("round_by") == "last":
        return "The last round counts: it has learned from all the answers that were bought, also where an earlier one was better on validation."
    if not all("validation" in entry for entry in results.get("rounds") or []):
        return "The last round counts, as there is no validation split to choose by (dataset.validation=200 would make one)."
    return "The round with the best validation accuracy is the one that counts."


def per_round(audit: Mapping) -> tuple[list[str], list[list[str]]]:
    """Header and rows: what was kept and how right it was, by round."""
    header = ["round", "asked", "kept", "with copies", "right %", "all right %", "expected %", "changed %", "wrong ones the student repeats"]
    found = []
    for number, entry in enumerate(audit["rounds"], 1):
        inherited = entry["inherited"]
        repeats = f"{inherited['repeated']} of {inherited['wrong']}" if inherited else "-"
        shares = (percent(entry[key]).rstrip("%") for key in ("accuracy", "accuracy_all", "expected_accuracy", "changed"))
        found.append([str(number), f"{entry['asked']:,}", f"{entry['kept']:,}", f"{entry['copies']:,}", *shares, repeats])
    return header, found


def classes(audit: Mapping) -> tuple[list[str], list[list[str]]]:
    """Header and rows: how many labels of each class the last round kept."""
    return ["class", "labels kept"], [[name, f"{n:,}"] for name, n in zip(audit["classes"], audit["rounds"][-1]["per_class"], strict=True)]


def monitors(audit: Mapping) -> tuple[list[str], list[list[str]]]:
    """Header and rows: values that the method gave each row, beside the truth."""
    rows = [[name, f"{m['rows']:,}", number(m["mean"]), number(m.get("mean_right")), number(m.get("mean_wrong"))]
            for name, m in audit["rounds"][-1]["monitors"].items()]  # fmt: skip
    return ["value", "rows", "mean", "for right labels", "for wrong labels"], rows


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
