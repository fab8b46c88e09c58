"""What a network was worth by class, from what run.json holds of the test split. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdx.report.run.units import share
from kdx.report.run.verdict import measured_on, present, settle

FEW_CLASSES, WORST = 20, 10
"""Of more classes than the first a document lists so many as the second, those with the least F1."""
MANY_CLASSES = 100
"""Of more classes run.json holds by name no more than the worst: all that these follow from it holds as
lists."""
HEADER = ["class", "test rows", "precision %", "recall %", "F1 %", "most confused with (rows)"]


@dataclass(frozen=True)
class ClassRow:
    """n: its test rows. Shares are None where they are of no row: precision where nothing is taken for the
    class, recall where n is 0, f1 where both. mistaken_for: the class that most of its wrong rows are taken
    for, None where none is wrong or an older run does not tell; mistaken: how many rows."""

    name: str
    n: int
    precision: float | None
    recall: float | None
    f1: float | None
    mistaken_for: str | None
    mistaken: int

    def cells(self) -> list[str]:
        """Under HEADER."""
        confused = f"{self.mistaken_for} ({self.mistaken:,})" if self.mistaken_for is not None else "-"
        shares = map(share, (self.precision, self.recall, self.f1))
        return [self.name, f"{self.n:,}", *shares, confused]

    def document(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "name"}


def class_rows(names: Sequence[str], counts: Sequence[int], test: Mapping[str, Any]) -> list[ClassRow]:
    """A row for each class, in their order; none where the run does not tell. counts: test rows of each.
    test: what was measured of a network on the test split.

    F1 is 2 TP / (2 TP + FP + FN) = 2 right / (rows + predicted).
    """
    recall, predicted = test.get("recall"), test.get("predicted") or _taken_for(test)
    if not recall or not predicted or not len(names) == len(counts) == len(recall) == len(predicted):
        return []
    most, rows = test.get("mistaken_for") or [], test.get("mistaken") or []
    found = []
    for number, name in enumerate(names):
        n, taken, known = counts[number], predicted[number], recall[number]
        right = round((known or 0) * n)
        other = most[number] if number < len(most) else None
        found.append(
            ClassRow(
                name,
                n,
                right / taken if taken else None,
                known,
                2 * right / (n + taken) if n + taken else None,
                names[other] if other is not None and other < len(names) else None,
                rows[number] if number < len(rows) else 0,
            )
        )
    return found


def _taken_for(test: Mapping[str, Any]) -> list[int]:
    """Rows that are taken for each class, of a run that was before that was kept."""
    return [sum(column) for column in zip(*(test.get("confusion") or []), strict=True)]


def worst_classes(rows: Sequence[ClassRow]) -> list[ClassRow]:
    """All of few classes, in their order; of more those with the least F1, the worst first. Classes without a
    test row do not count there."""
    if len(rows) <= FEW_CLASSES:
        return list(rows)
    return sorted((row for row in rows if row.n), key=lambda row: row.f1 or 0.0)[:WORST]


def rows_by_role(results: Mapping[str, Any], headline: str) -> dict[str, list[ClassRow]]:
    """role -> its rows, of the weights that the table shows, in the order of the table; without roles that do
    not tell."""
    names, counts = results.get("classes") or [], (results.get("class_counts") or {}).get("test") or []
    used, found = settle(results, headline), {}
    for role in present(results):
        if rows := class_rows(names, counts, measured_on(results, role, used)):
            found[role] = rows
    return found


def by_class(results: Mapping[str, Any], headline: str) -> dict[str, Any]:
    """{"by_class": role -> class -> its numbers} for run.json; {} of a task without classes."""
    found = {}
    for role, rows in rows_by_role(results, headline).items():
        listed = rows if len(rows) <= MANY_CLASSES else worst_classes(rows)
        found[role] = {row.name: row.document() for row in listed}
    return {"by_class": found} if found else {}
