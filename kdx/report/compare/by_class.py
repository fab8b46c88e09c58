"""What the networks of a comparison are worth by class: the test rows of all seeds of a row together. Pure
functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from kdx.core.roles import ROLE_WORDS
from kdx.report.compare.compare import Comparison
from kdx.report.compare.groups import Group
from kdx.report.compare.measured import ByClass
from kdx.report.run.classes import HEADER, ClassRow, class_rows, worst_classes
from kdx.report.run.units import share

_STUDENT = "student"
MOST_GROUPS = 20
"""Rows of a comparison that have a table by class; the first ones."""


def pooled_rows(group: Group, role: str) -> list[ClassRow]:
    """Of a role, one for each class; none where a run of the group does not say. precision, recall and F1
    are those of all test rows of all seeds; mistaken counts of each run only the class that most of its wrong
    rows are taken for.
    """
    each = [e.networks[role].by_class if role in e.networks else None for e in group.entries]
    names = group.entries[0].classes
    found = [one for one in each if one is not None and len(one.recall) == len(names)]
    if not names or len(found) < len(each) or any(e.classes != names for e in group.entries):
        return []
    return class_rows(names, *_pooled(found))


def _pooled(found: Sequence[ByClass]) -> tuple[list[int], dict[str, Any]]:
    """(test rows of each class, what `class_rows` reads of a network)"""
    counts = [sum(rows) for rows in zip(*(one.counts for one in found), strict=True)]
    predicted = [sum(rows) for rows in zip(*(one.predicted for one in found), strict=True)]
    rights = zip(*(one.right() for one in found), strict=True)
    recall = [sum(right) / n if n else None for right, n in zip(rights, counts, strict=True)]
    others: list[int | None] = []
    rows: list[int] = []
    for number in range(len(counts)):
        taken: Counter[int] = Counter()
        for one in found:
            if number < len(one.mistaken_for) and (other := one.mistaken_for[number]) is not None:
                taken[other] += one.mistaken[number]
        other, most = taken.most_common(1)[0] if taken else (None, 0)
        others.append(other)
        rows.append(most)
    return counts, {"recall": recall, "predicted": predicted, "mistaken_for": others, "mistaken": rows}


def class_records(group: Group) -> dict[str, Any]:
    """role -> class -> its numbers, for JSON: of more than 20 classes the ten worst of each role."""
    roles = dict.fromkeys(role for e in group.entries for role in e.networks)
    found = {role: worst_classes(pooled_rows(group, role)) for role in roles}
    return {role: {row.name: row.document() for row in rows} for role, rows in found.items() if rows}


def class_tables(found: Comparison) -> list[tuple[str, list[str], list[list[str]]]]:
    """(a row of the comparison, header, rows): each class of the student, or of many the ten worst, with the
    F1 of the other networks beside; of the first MOST_GROUPS rows, of those that tell.
    """
    words = {
        **{role: found.called(role).words for role in ROLE_WORDS},
        **{role: own.words for role, own in found.roles.items()},
    }
    made = []
    for group in found.groups[:MOST_GROUPS]:
        if not (student := pooled_rows(group, _STUDENT)):
            continue
        beside = {
            role: {row.name: row.f1 for row in rows}
            for role in words
            if role != _STUDENT and (rows := pooled_rows(group, role))
        }
        header = [*HEADER, *(f"F1 % {words[role]}" for role in beside)]
        body = [[*row.cells(), *_f1_of(row.name, beside)] for row in worst_classes(student)]
        what = f"{group.name}: the {len(body)} classes of {len(student):,} with the least F1"
        made.append((what if len(body) < len(student) else group.name, header, body))
    return made


def _f1_of(name: str, beside: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    return [share(found[name]) for found in beside.values()]


def without_table(found: Comparison) -> str:
    """A sentence on rows without a table; "" where all have one."""
    more = len(found.groups) - MOST_GROUPS
    return f"The other {more:,} rows of the comparison have theirs in the JSON." if more > 0 else ""
