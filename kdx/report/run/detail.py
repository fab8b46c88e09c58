"""What report.md says of single classes and rows of the test split."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from kdx.core.roles import known_roles
from kdx.report.run.classes import (
    FEW_CLASSES,
    HEADER,
    MANY_CLASSES,
    WORST,
    ClassRow,
    rows_by_role,
    worst_classes,
)
from kdx.report.run.gallery import answer_text, shorten
from kdx.report.run.markup import code, escape, fenced, folded, markdown_table, table_of_cells
from kdx.report.run.units import share
from kdx.report.run.verdict import called, measured_on, metric, present, settle

_LONGEST = 60
"""Letters of a name in a table; of a longer one the end is shown."""
_STUDENT = "student"


def class_section(run: Mapping) -> list[str]:
    """Balanced accuracy and the recall of each class, of all roles side by side; of many classes those that
    the last network of the table knows least. Then each role by itself.
    """
    numbers = run.get("results") or {}
    counts, used = (numbers.get("class_counts") or {}).get("test"), numbers.get("headline", "last")
    recalls = {
        role: found for role in present(numbers) if (found := measured_on(numbers, role, used).get("recall"))
    }
    if not counts or not recalls:
        return []
    last = list(recalls.values())[-1]
    order = (
        range(len(counts))
        if len(counts) <= MANY_CLASSES
        else sorted((c for c in range(len(counts)) if counts[c]), key=lambda c: last[c])[:WORST]
    )
    mean = [
        "balanced accuracy",
        f"{sum(counts):,}",
        *(share(metric(numbers, role, used, "test", "balanced_accuracy")) for role in recalls),
    ]
    rows = [
        [
            escape(numbers["classes"][c]),
            f"{counts[c]:,}",
            *(share(found[c]) for found in recalls.values()),
        ]
        for c in order
    ]
    names = [escape(called(numbers, role)) for role in recalls]
    text = markdown_table(["recall %", "test rows", *names], [mean, *rows])
    what = "Recall by class"
    if len(rows) < len(counts):
        what = f"Recall of the {len(rows)} classes of {len(counts):,} that the {names[-1]} knows least"
    return ["## Classes", folded(what, text, len(rows) <= FEW_CLASSES), *_of_roles(numbers, used)]


def _of_roles(numbers: Mapping, used: str) -> list[str]:
    found = rows_by_role(numbers, used)
    lines = [_of_role(called(numbers, role), rows) for role, rows in found.items()]
    if any(len(rows) > FEW_CLASSES for rows in found.values()):
        lines.append(
            "All classes, in the order of `results.classes`: `recall`, `predicted`, `mistaken_for` and "
            f"`mistaken` of `results.<role>.{settle(numbers, used)}.test` in run.json."
        )
    return lines


def _of_role(role: str, rows: Sequence[ClassRow]) -> str:
    shown, what = worst_classes(rows), f"By class: {escape(role)}"
    if len(shown) < len(rows):
        what = f"The {len(shown)} classes of {len(rows):,} with the least F1: {escape(role)}"
    return folded(what, table_of_cells(HEADER, [row.cells() for row in shown]))


def row_section(run: Mapping, folder: str, artifacts: Mapping[str, str]) -> list[str]:
    """The test rows that the student gets most wrong, and where all rows are."""
    numbers = run.get("results") or {}
    worst, kept = numbers.get("worst") or {}, run.get("predictions")
    lines = []
    if worst.get("rows"):
        whose = called(numbers, worst["role"]) if worst.get("role") in present(numbers) else "last network"
        sure = any("confidence" in key for key in worst["rows"][0])
        what = "surest errors" if sure else "largest errors"
        lines += [f"The {what} of the {escape(whose)} on the test split:", worst_table(numbers, worst)]
    if kept:
        lines.append(_where(kept, folder, artifacts))
    return ["## Rows", *lines] if lines else []


def _where(kept: Mapping, folder: str, artifacts: Mapping[str, str]) -> str:
    """Where the answers to every row are."""
    parts = " and ".join(f"{count:,} rows of {split}" for split, count in (kept.get("rows") or {}).items())
    if kept.get("file"):
        return f"Every answer to {escape(parts)}, with the truth: [{kept['file']}]({kept['file']})."
    lies = f" ({code(artifacts['evaluate'])}, predictions.json)" if "evaluate" in artifacts else ""
    again = fenced(f"kdx predict {shlex.quote(folder)} data=test to=test.csv")
    return (
        f"{escape(parts)} are too many for a file here. The answers lie as arrays with the stage evaluate"
        f"{lies}; this writes those of one network:\n\n{again}"
    )


def worst_table(numbers: Mapping, worst: Mapping) -> str:
    """Rows of predictions.csv: what each is called, the truth, and what each role answers; of numbers by how
    much the worst role is off.
    """
    roles = [role for role in known_roles(numbers) if role in present(numbers)]
    body, header = [], list[str]()
    for row in worst["rows"]:
        cells = _cells(row, roles, numbers, str(worst.get("role")))
        header = header or list(cells)
        body.append([cells.get(name, "") for name in header])
    return table_of_cells(header, body)


def _cells(row: Mapping[str, Any], roles: Sequence[str], numbers: Mapping, worst: str) -> dict[str, str]:
    """Header -> cell."""
    own = {
        role: {
            key.removeprefix(f"{role}."): value
            for key, value in row.items()
            if (key.startswith(f"{role}.") if role != _STUDENT else _is_students(key, roles))
        }
        for role in roles
    }
    found = {}
    alone = sum(key.startswith("truth") for key in row) == 1  # one target needs no name
    for key, value in row.items():
        if key in ("file", "row") or key == "truth" or key.startswith("truth:"):
            head = key.replace("truth:", "true ", 1)
            found["truth" if alone and key.startswith("truth") else head] = _value(value)
    for role, answers in own.items():
        who = called(numbers, role)
        if "label" in answers:
            found[who] = answer_text(str(answers["label"]), answers.get("confidence"))
        for key, value in answers.items():
            if key.startswith("value:"):
                name = key.removeprefix("value:")
                of = "" if alone else f", {name}"
                found[f"{who}{of}"] = _value(value)
                true = row.get(f"truth:{name}")
                if role == worst and None not in (value, true):
                    found[f"off by{of}"] = f"{value - true:+.4g}"
    return found


def _is_students(key: str, roles: Sequence[str]) -> bool:
    """The student's columns have no role before their name."""
    before = ("file", "row", "truth", *(f"{role}." for role in roles if role != _STUDENT))
    return not key.startswith(before)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else shorten(str(value), _LONGEST, end=True)
