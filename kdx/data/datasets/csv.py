"""A table of your own: a CSV, TSV, JSON lines or Parquet file with a column to be predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from kdx.core import checks, path_checks
from kdx.core.errors import UserError
from kdx.data.column_files import ending, names_in
from kdx.data.columns import name_some, names_of_columns, need_column
from kdx.data.files import Files
from kdx.data.raw import Description
from kdx.data.stored import InMemory, Writers
from kdx.data.tables.overview import overview
from kdx.data.tables.reading import Plan, plan_table
from kdx.data.tables.rows import Table

TARGET_KINDS = ("auto", "classes", "numbers")


class Csv:
    """file: the rows; test_file, unlabelled_file: further ones with the same columns, to test with and for
    the pool, null: none. target: the column to be predicted, or several of numbers. kind: what it is, "auto":
    numbers where they are numbers and more than ten different ones, else classes. ignore: columns that are
    left out.

    A row without a target joins the pool. See kdx.data.tables.reading for how columns are read.
    """

    paths: ClassVar = ("file", "test_file", "unlabelled_file")
    streams: ClassVar = True

    def __init__(
        self,
        *,
        file: str | None,
        test_file: str | None,
        unlabelled_file: str | None,
        target: str | Sequence[str],
        kind: str,
        ignore: Sequence[str] | str | None,
    ):
        given = {"train": file, "test": test_file, "unlabelled": unlabelled_file}
        keys = dict(zip(given, self.paths, strict=True))
        self._files = {
            part: path_checks.path(f"dataset.{keys[part]}", name, "a file")
            for part, name in given.items()
            if name is not None
        }
        self._targets = names_of_columns("target", target)
        self._kind = checks.choice("dataset.kind", kind, TARGET_KINDS)
        self._ignore = names_of_columns("ignore", ignore)
        self._plan: Plan | None = None

    def files(self) -> Files:
        return Files({part: [(f"rows{ending(path)}", path)] for part, path in self._files.items()})

    def fetch(self) -> None:
        if "train" not in self._files:
            raise UserError("dataset.file must name a file of rows, such as dataset.file=rows.csv")
        for path in self._files.values():
            if not path.is_file():
                raise UserError(
                    f"the data file '{path}' is missing: see dataset.file, test_file, unlabelled_file"
                )

    def describe(self) -> Description:
        """Reads the files once, and keeps no row."""
        return self._planned().describe()

    def load(self, *, workers: int = 0, write: Writers = InMemory) -> Table:
        return self._planned().read(write)

    def _planned(self) -> Plan:
        if self._plan is None:
            self.fetch()
            self._check_names()
            parts = {
                part: overview(path, () if part == "unlabelled" else self._targets, self._ignore)
                for part, path in self._files.items()
            }
            self._plan = plan_table(parts, self._targets, self._kind)
        return self._plan

    def _check_names(self) -> None:
        """What can be said without reading rows."""
        train = self._files["train"]
        known = names_in(train)
        if not self._targets:
            raise UserError(
                f"dataset.target must name the column to be predicted; '{train}' has {name_some(known)}"
            )
        if twice := sorted({name for name in self._targets if self._targets.count(name) > 1}):
            raise UserError(f"dataset.target names '{twice[0]}' twice: name each column once")
        if both := [name for name in self._targets if name in self._ignore]:
            raise UserError(
                f"dataset.ignore leaves out '{both[0]}', which dataset.target names: take it out of one"
            )
        for name in self._ignore:
            need_column(train, known, name, "dataset.ignore")
