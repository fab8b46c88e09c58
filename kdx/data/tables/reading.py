"""Files of columns as a table: which columns are numbers, which categories, and which are left out. Two
passes: one sees what there is, by which a data set is described, the other reads rows, batch by batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.data.column_files import changed_meanwhile
from kdx.data.columns import Columns, need_column
from kdx.data.files import names_apart
from kdx.data.phrases import few
from kdx.data.raw import Description, Note, RowNames
from kdx.data.stored import Writer, Writers
from kdx.data.tables import rows
from kdx.data.tables.kinds import MISSING_WORD, ColumnPlan, add_column, alike
from kdx.data.tables.overview import Overview, without_target
from kdx.data.tables.rows import Table
from kdx.data.tables.target import Target, read_target


@dataclass(frozen=True)
class Plan:
    """How rows are made of the columns of files. parts: "train" among them. columns: of a row, first those of
    a column each, then those that say where a number is missing. dropped: column -> why it was left out.
    """

    parts: Mapping[str, Overview]
    target: Target
    columns: tuple[rows.TableColumn, ...]
    dropped: Mapping[str, str]
    notes: tuple[Note, ...]

    def counts(self) -> dict[str, int]:
        """Rows of each part: those of train without a target are in the pool, those of test are left out."""
        found = {part: held.rows - held.unknown for part, held in self.parts.items() if part != "unlabelled"}
        pool = self.parts["train"].unknown
        pool += self.parts["unlabelled"].rows if "unlabelled" in self.parts else 0
        return found | ({"unlabelled": pool} if pool else {})

    def describe(self) -> Description:
        counts, target = self.counts(), self.target
        strata = None
        if target.classes is not None and target.counts is not None:
            strata = tuple(target.counts.get(name, 0) for name in target.classes)
        return Description(
            target.task,
            {"": ((len(self.columns),), "float32")},
            rows.TABLE,
            counts["train"],
            strata,
            counts.get("test"),
            counts.get("unlabelled", 0),
            test_size_is_a_fallback=True,
            adapter=self.adapter(),
        )

    def adapter(self) -> dict[str, Any]:
        """A stand-in for that of the rows, for checks before work."""
        stand_in = [self._stand_in(column) for column in self.columns]
        return {"_target_": rows.TABLE_ADAPTER, "columns": stand_in, "clip": rows.CLIP}

    def _stand_in(self, column: rows.TableColumn) -> dict[str, Any]:
        """As `column_statistics` would have it of all rows of the file to train with."""
        if column.flag:
            return column.document()
        looked = self.parts["train"].columns[column.name]
        if column.categories is None:
            return column.document() | rows.of_numbers(looked.numbers.mean, looked.numbers.std)
        words = looked.words.counts or dict.fromkeys(column.categories, 1)  # where they are not known
        counts = [words.get(word, 0) for word in column.categories]
        if looked.words.missing and MISSING_WORD in column.categories:
            counts[column.categories.index(MISSING_WORD)] += looked.words.missing
        return column.document() | rows.of_categories(np.array(counts))

    def read(self, write: Writers) -> Table:
        """The second pass. write: who takes the inputs of a part."""
        counts = self.counts()
        takers = {
            part: write(part, count, (len(self.columns),), np.float32) for part, count in counts.items()
        }
        takings = {part: _Taking(taker) for part, taker in takers.items()}
        for part, held in self.parts.items():
            self._read(part, held, takings)
        parts: dict[str, tuple[Any, Any]] = {}
        for part in counts:
            found = takings[part]
            if found.rows != counts[part]:
                raise changed_meanwhile(self.parts["train"].path)
            truth = np.concatenate(found.truth) if part != "unlabelled" else None
            parts[part] = (found.taker.close(), truth)
        names = {part: RowNames.of(found.numbers) for part, found in takings.items()}
        return Table(
            parts, self.columns, self.target.task, dropped=self.dropped, notes=self.notes, names=names
        )

    def _read(self, part: str, held: Overview, takings: Mapping[str, _Taking]) -> None:
        codes, called = self.codes(), self._called()[part]
        done = 0
        for columns in held.file.batches():
            inputs = self.inputs(held, columns, codes)
            numbers = np.arange(done, done + columns.rows)
            done += columns.rows
            if part == "unlabelled":
                takings[part].add(called, inputs, None, numbers)
                continue
            lacking = without_target(columns, self.target.names)
            truth = self.target.truth(columns)
            takings[part].add(called, inputs[~lacking], truth[~lacking], numbers[~lacking])
            if part == "train" and lacking.any():
                takings["unlabelled"].add(called, inputs[lacking], None, numbers[lacking])

    def _called(self) -> dict[str, str]:
        """part -> what its file is called: behind the part, where another file has that name."""
        files = {part: [held.path.name] for part, held in self.parts.items()}
        return {part: name for part, (name,) in names_apart(files, {part: part for part in files}).items()}

    def codes(self) -> dict[str, dict[str, float]]:
        """column -> word -> the number that stands for it, of those of words."""
        return {
            column.name: {word: float(place) for place, word in enumerate(column.categories)}
            for column in self.columns
            if column.categories is not None
        }

    def inputs(
        self, held: Overview, columns: Columns, codes: Mapping[str, Mapping[str, float]]
    ) -> np.ndarray:
        """(n, D) float32"""
        found = np.empty((columns.rows, len(self.columns)), np.float32)
        for place, column in enumerate(self.columns):
            if column.flag:
                continue
            if column.categories is not None:
                words = columns[column.name].words()
                try:
                    code = codes[column.name]
                    found[:, place] = [code[MISSING_WORD if word is None else word] for word in words]
                except KeyError:
                    raise changed_meanwhile(held.path) from None
                continue
            numbers = columns[column.name].numbers()
            if column.missing is not None:
                found[:, column.missing] = np.isnan(numbers)
            found[:, place] = np.nan_to_num(numbers, nan=0.0)
        return found


@dataclass
class _Taking:
    """What comes of one part. numbers: of its rows in the files where they lie."""

    taker: Writer
    rows: int = 0
    truth: list[np.ndarray] = field(default_factory=list)
    numbers: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, file: str, inputs: np.ndarray, truth: np.ndarray | None, numbers: np.ndarray) -> None:
        """file: what the file of these rows is called."""
        self.taker.append(inputs)
        self.rows += len(inputs)
        if truth is not None:
            self.truth.append(truth)
        self.numbers.setdefault(file, []).append(numbers)


def plan_table(parts: Mapping[str, Overview], targets: Sequence[str], kind: str) -> Plan:
    """parts: the files, "train" among them. targets: the column that is to be predicted, or several of
    numbers. kind: "auto", "classes" or "numbers". Raises UserError where a
    target or a column is not there, or the target holds what cannot be predicted.
    """
    train = parts["train"]
    for name in targets:
        need_column(train.path, train.names, name, "dataset.target")
    _check_columns(parts, targets)
    _check_targets_there(parts, targets)
    parts = alike(parts)
    found = plan_columns(parts, targets)
    if not found.columns:
        raise UserError(
            f"no column of '{train.path}' is left to tell the target by: "
            + (
                "; ".join(f"{name}: {why}" for name, why in list(found.dropped.items())[:3])
                or "it has no other"
            )
        )
    target = read_target(parts, targets, kind, found.notes)
    _note_unknown(parts, found.notes)
    return Plan(parts, target, tuple(found.columns), found.dropped, tuple(found.notes))


def plan_columns(parts: Mapping[str, Overview], targets: Sequence[str]) -> ColumnPlan:
    """All columns but the targets; it may be that none is left."""
    found = ColumnPlan()
    for name in parts["train"].names:
        if name not in targets:
            add_column(found, name, parts)
    for place in found.lacking:
        column = found.columns[place]
        found.columns[place] = rows.TableColumn(column.name, column.categories, missing=len(found.columns))
        found.columns.append(rows.TableColumn(f"{column.name} is missing", flag=True))
    return found


def _check_columns(parts: Mapping[str, Overview], targets: Sequence[str]) -> None:
    train = parts["train"]
    taken = [name for name in train.names if name not in targets]
    for held in parts.values():
        if lacking := [name for name in taken if name not in held.names]:
            raise UserError(
                f"'{held.path}' lacks the column {few(lacking)} of '{train.path}': every part "
                "must have the same ones, or set dataset.ignore"
            )


def _check_targets_there(parts: Mapping[str, Overview], targets: Sequence[str]) -> None:
    for part, held in parts.items():
        if part != "unlabelled" and held.unknown == held.rows and set(targets) <= set(held.names):
            raise UserError(f"no row of '{held.path}' has a target ({', '.join(targets)})")


def _note_unknown(parts: Mapping[str, Overview], notes: list[Note]) -> None:
    for part, held in parts.items():
        if part == "unlabelled" or not held.unknown:
            continue
        then = "join the pool" if part == "train" else "are left out"
        notes.append(
            (f"{held.unknown:,} of {held.rows:,} rows of {held.path.name} have no target, and {then}", "info")
        )
