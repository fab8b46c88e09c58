"""Rows of a table, as its loaders hand them over: numbers and categories, some of them missing. Numpy and the
standard library only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from kdx.data.phrases import counted
from kdx.data.raw import Description, Note, Raw, Skipped, fewer_names, fewer_parts
from kdx.data.stored import in_blocks

TABLE = "table"
CLASSES_TASK, NUMBERS_TASK = "kdx.tasks.classification.Classification", "kdx.tasks.regression.Regression"
TABLE_ADAPTER = "kdx.models.tables.TableAdapter"
MOST_CATEGORIES = 64
"""Categories of a column that have a place of their own, the most frequent ones; all others share one."""
CLIP = 5.0
"""Deviations from the mean beyond which a number is cut off: a column that hardly varies in training would
else have test rows of hundreds."""
_STILL = 1e-12
_HELD = 1 << 26
"""Bytes of columns that are read together."""


@dataclass(frozen=True)
class TableColumn:
    """One column as rows hold it, a float32 a row.

    categories: what its whole numbers stand for, None: it holds numbers. missing: the place of the column
    that is 1 where this one's number is not known (and 0 stands there), None: all are known. flag: whether
    it is itself such a column.
    """

    name: str
    categories: tuple[str, ...] | None = None
    missing: int | None = None
    flag: bool = False

    def document(self) -> dict[str, Any]:
        """As an adapter and data.json keep it."""
        found: dict[str, Any] = {"name": self.name}
        if self.categories is not None:
            found["categories"] = list(self.categories)
        if self.missing is not None:
            found["missing"] = self.missing
        return found | ({"flag": True} if self.flag else {})


def column_of(document: Mapping[str, Any]) -> TableColumn:
    """What `TableColumn.document` tells of."""
    categories = document.get("categories")
    return TableColumn(
        document["name"],
        None if categories is None else tuple(categories),
        document.get("missing"),
        bool(document.get("flag")),
    )


@dataclass(frozen=True, eq=False)
class Table(Raw):
    """parts: name -> (values (N, D) float32, truth), of "unlabelled" truth None: classes (N,) int64 or
    numbers (N, K) float32. columns: of the D. standardise: whether networks see numbers of mean 0 and
    deviation 1, cut off at CLIP, and categories one-hot; else they see the values as they are. dropped:
    column -> why it was left out. The others: see Raw.
    """

    parts: Mapping[str, tuple[np.ndarray | None, np.ndarray | None]]
    columns: tuple[TableColumn, ...]
    task: Mapping[str, Any]
    standardise: bool = True
    dropped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    skipped: Skipped = ()
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reads: str = TABLE
    noun: str = "row"

    def part(self, name: str) -> tuple[np.ndarray | None, np.ndarray | None]:
        return self.parts.get(name, (None, None))

    def only(self, rows: Mapping[str, np.ndarray]) -> Self:
        return replace(self, parts=fewer_parts(self.parts, rows), names=fewer_names(self.names, rows))

    def strata(self, part: str) -> np.ndarray | None:
        truth = self.part(part)[1]
        return truth if "classes" in self.task else None

    def adapter(self, seen: Sequence[np.ndarray]) -> tuple[Mapping[str, Any] | None, list[Note]]:
        if not self.standardise:
            return None, []
        rows = sum(map(len, seen))
        columns = column_statistics(self.columns, *seen)
        still = [column["name"] for column in columns if column.get("std") == 0]
        notes: list[Note] = []
        if still:
            notes.append(
                (
                    f"of the {rows:,} rows to train with all have the same value in "
                    f"{', '.join(still[:10])}{' and more' if len(still) > 10 else ''}: networks do not see "
                    f"{'it' if len(still) == 1 else 'them'}",
                    "info",
                )
            )
        return {"_target_": TABLE_ADAPTER, "columns": columns, "clip": CLIP}, notes

    def about(self) -> dict[str, Any]:
        return {
            "columns": [column.document() for column in self.columns],
            **({"dropped_columns": dict(self.dropped)} if self.dropped else {}),
        }

    def look(
        self, inputs: Mapping[str, np.ndarray], name: Callable[[str, int], str]
    ) -> tuple[list[Note], dict[str, Any]]:
        """What was seen, column by column."""
        notes: list[Note] = [(text, "info") for text in self._seen(inputs)]
        return notes, {}

    def in_words(self) -> str:
        kinds = [column for column in self.columns if not column.flag]
        sorts = sum(column.categories is not None for column in kinds)
        numbers = len(kinds) - sorts
        parts = [counted(numbers, "number")] if numbers else []
        parts += [f"{sorts:,} {'category' if sorts == 1 else 'categories'}"] if sorts else []
        return f"tables of {counted(len(kinds), 'column')} ({', '.join(parts)})"

    def _seen(self, inputs: Mapping[str, np.ndarray]) -> list[str]:
        found = []
        whole, seen = sum(map(len, inputs.values())), list(inputs.values())
        for column, _, flags in _each(self.columns, seen) if any(c.flag for c in self.columns) else ():
            if flags is not None:
                lacking = int(flags.sum(dtype=np.float64))
                found.append(
                    f"{column.name}: missing in {lacking:,} of {whole:,} rows, the mean stands there"
                )
        for name, why in self.dropped.items():
            found.append(f"the column {name} is left out: {why}")
        return found


def column_statistics(columns: Sequence[TableColumn], *seen: Any) -> list[dict[str, Any]]:
    """What the adapter keeps of each column, of the rows that training may see, (N, D) arrays or StoredRows:
    of numbers mean and deviation of those that are known (0: they do not vary), of categories the codes that
    have a place of their own, most frequent first, and whether others share one.
    """
    found = []
    for column, values, lacking in _each(columns, seen):
        values = values.astype(np.float64)
        kept = column.document()
        if column.categories is not None:
            kept |= of_categories(np.bincount(values.astype(np.int64), minlength=len(column.categories)))
        elif not column.flag:
            values = values if lacking is None else values[lacking == 0]
            kept |= of_numbers(*(float(values.mean()), float(values.std())) if len(values) else (0.0, 0.0))
        found.append(kept)
    return found


def of_categories(counts: np.ndarray) -> dict[str, Any]:
    """What the adapter keeps of categories. counts: (K,) rows of each."""
    order = [int(code) for code in np.argsort(-counts, kind="stable") if counts[code]]
    return {"codes": order[:MOST_CATEGORIES], "others": len(order) > MOST_CATEGORIES}


def of_numbers(mean: float, std: float) -> dict[str, Any]:
    """What the adapter keeps of numbers."""
    return {"mean": mean, "std": std if std > _STILL * max(1.0, abs(mean)) else 0.0}


def _each(
    columns: Sequence[TableColumn], seen: Sequence[Any]
) -> Iterator[tuple[TableColumn, np.ndarray, np.ndarray | None]]:
    """(column, its (N,) values, where they are missing), so many columns read together as fit into memory."""
    together = max(1, _HELD // max(1, 4 * sum(map(len, seen))))
    for start in range(0, len(columns), together):
        group = columns[start : start + together]
        flags = {column.missing for column in group if column.missing is not None}
        places = [*range(start, start + len(group)), *sorted(flags)]
        held = np.concatenate([block[:, places] for rows in seen for block in in_blocks(rows)])
        for place, column in enumerate(group):
            lacking = None if column.missing is None else held[:, places.index(column.missing)]
            yield column, held[:, place], lacking


def describe_table(raw: Table) -> Description:
    """The Description of a table that is read already, as a small one is: with the adapter of all its rows as
    a stand-in.
    """
    train, truth = raw.part("train")
    groups = raw.strata("train")
    counts = None
    if groups is not None:
        counts = tuple(int(n) for n in np.bincount(groups, minlength=len(raw.task["classes"])))
    shipped = {name: None if (rows := raw.part(name)[0]) is None else len(rows) for name in raw.parts}
    return Description(
        raw.task,
        {"": ((train.shape[1],), "float32")},
        TABLE,
        len(train),
        counts,
        shipped.get("test"),
        shipped.get("unlabelled") or 0,
        validation=shipped.get("validation"),
        adapter=raw.adapter([train])[0],
    )
