"""What each network of a run answered to each row of validation and test, kept by `evaluate` for
predictions.csv: the columns that `kdx predict` writes, in small arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kdx.core.answers import AnswerColumns
from kdx.core.task import Task
from kdx.core.trees import part_of, rows_of
from kdx.core.types import Answers, Split
from kdx.data.kept_columns import PREDICTIONS_JSON, ColumnKeeper, KeptRows, keep_columns, keep_known
from kdx.data.writing import plain_cell
from kdx.pipeline.stages.names import KnownBy
from kdx.pipeline.stages.worst import worst_rows
from kdx.store.work import Work

KEPT = ("validation", "test")
"""Splits of which all rows are kept. Not the labelled ones, which all networks have learned by heart."""
ROLE = "student"
"""Whose columns have the names that `kdx predict` gives them; those of any other begin with its role."""
NAMED_ROWS = 10
"""Rows that results name as the worst."""
_BLOCK = 1 << 16
_Columns = dict[str, tuple[np.ndarray, list[Any] | None]]


class RowAnswers:
    """splits: name -> its rows, of which those of KEPT count."""

    def __init__(self, task: Task, splits: Mapping[str, Split]):
        self._task = task
        self._splits = {name: splits[name] for name in KEPT if name in splits}
        self._found: dict[tuple[str, str, str], _Columns] = {}
        self._worst: dict[tuple[str, str], list[int]] = {}

    def add(self, role: str, which: str, answers: Mapping[str, Answers]) -> None:
        """answers: split -> what these weights of a role answer, of the splits that it is measured on."""
        for name in self._splits.keys() & answers.keys():
            self._found[role, which, name] = _columns(
                self._task.columns_beside, answers[name], self._splits[name].known
            )
        if "test" in self._splits and "test" in answers:
            truth = self._splits["test"].known
            self._worst[role, which] = worst_rows(self._task, answers["test"], truth)[:NAMED_ROWS].tolist()

    def worst(self, which: str) -> dict[str, list[int]]:
        """role -> the numbers of at most NAMED_ROWS test rows that these weights of it get most wrong, the
        worst first."""
        return {role: rows for (role, weights), rows in self._worst.items() if weights == which}

    def write(self, work: Work, known: Mapping[str, KnownBy]) -> None:
        """known: split -> what its rows are known by.

        Files: predictions.json, which tells of the others: rows.<split>.npy (numbers and truth),
        rows.<split>.<weights>.npy (answers), rows.<split>.words.npy and .ends.npy (names)."""
        splits: dict[str, dict[str, Any]] = {}
        weights = list(dict.fromkeys(which for _, which, _ in self._found))
        for name, split in self._splits.items():
            called = known[name].by, known[name].one_by_one(len(split))
            truth = _columns(self._task.truth_columns, split.known)
            splits[name] = keep_known(work.path, f"rows.{name}", called, truth)
            for which in weights:
                if columns := self._together(which, name):
                    splits[name][which] = keep_columns(work.path, f"rows.{name}.{which}.npy", columns)
        worst = {which: found for which in weights if (found := self._worst_of(work, splits, which))}
        work.write_json(PREDICTIONS_JSON, {"splits": splits, "worst": worst})

    def _together(self, which: str, split: str) -> _Columns:
        """Those of all roles beside each other; of a role that has no such weights those of its last ones."""
        roles = dict.fromkeys(role for role, *_ in self._found)
        found: _Columns = {}
        for role in sorted(roles, key=lambda name: name != ROLE):
            own = self._found.get((role, which, split), self._found.get((role, "last", split), {}))
            found |= _called(role, own)
        return found

    def _worst_of(self, work: Work, splits: Mapping[str, Any], which: str) -> dict[str, Any]:
        """The test rows that the student (else the last of the roles) gets most wrong."""
        by_role = self.worst(which)
        if not by_role:
            return {}
        role = ROLE if ROLE in by_role else [*by_role][-1]
        found = KeptRows(work.path, splits["test"], which).take(by_role[role])
        return {"role": role, "rows": rows_of_columns(found)}


def role_columns(task: Task, role: str, answers: Answers) -> dict[str, Any]:
    """`Task.columns` by the names that predictions.csv has for them."""
    return _called(role, task.columns(answers, AnswerColumns()))


def _called(role: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a role by the names that predictions.csv has for them: see ROLE."""
    before = "" if role == ROLE else f"{role}."
    return {f"{before}{name}": column for name, column in columns.items()}


def _columns(columns_of: Callable[..., Mapping[str, Any]], *values: Answers) -> _Columns:
    """Of all rows of the values, made block by block."""
    keeper = ColumnKeeper()
    for start in range(0, rows_of(values[0]), _BLOCK):
        keeper.add(columns_of(*(part_of(value, start, _BLOCK) for value in values)))
    return keeper.columns()


def rows_of_columns(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """header -> n values as n rows, header -> value, as JSON has them."""
    cells = ([plain_cell(cell) for cell in column] for column in columns.values())
    return [dict(zip(columns, row, strict=True)) for row in zip(*cells, strict=True)]
