"""The small tables that ship inside scikit-learn, read from their files: importing scikit-learn takes a
second."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from kdx.core.errors import UserError
from kdx.data.loading import damaged, read_file
from kdx.data.raw import Description
from kdx.data.tables.rows import CLASSES_TASK, Table, TableColumn, describe_table


class ShippedTable(ABC):
    """A table that ships inside scikit-learn. option: what it is called in conf/dataset; names: of its
    files.
    """

    option: ClassVar[str]
    names: ClassVar[tuple[str, ...]]

    def files(self) -> list[Path]:
        return shipped_files(*self.names)

    def fetch(self) -> None:
        need_shipped(self.option, self.files())

    def describe(self) -> Description:
        return describe_table(self.load())

    def load(self, *, workers: int = 0) -> Table:
        self.fetch()
        return self.table(*self.files())

    @abstractmethod
    def table(self, *files: Path) -> Table:
        """What its files hold, which are there."""


def table_of_classes(
    numbers: np.ndarray, columns: Iterable[str], classes: Sequence[str], *, standardise: bool = True
) -> Table:
    """numbers: (N, D + 1), the last column the number of the class."""
    return Table(
        {"train": (numbers_of(numbers[:, :-1]), numbers[:, -1].astype(np.int64))},
        tuple(map(TableColumn, columns)),
        {"_target_": CLASSES_TASK, "classes": list(classes)},
        standardise=standardise,
    )


def shipped_files(*names: str) -> list[Path]:
    """Where they lie; [] where scikit-learn is not installed."""
    spec = importlib.util.find_spec("sklearn")
    folders = spec.submodule_search_locations if spec else None
    return [Path(folders[0]) / "datasets/data" / name for name in names] if folders else []


def need_shipped(dataset: str, files: list[Path]) -> None:
    """UserError where scikit-learn is not there, or does not hold them."""
    if not files:
        raise UserError(
            f"dataset={dataset} ships inside scikit-learn, which is not installed: pip install scikit-learn"
        )
    for file in files:
        if not file.is_file():
            raise UserError(f"this scikit-learn has no file '{file}': dataset={dataset} is read from it")


def read_numbers(file: Path, delimiter: str | None = ",", skip: int = 0) -> np.ndarray:
    """(N, D) float64"""
    try:
        lines = read_file(file).decode("ascii").splitlines()[skip:]
        return np.loadtxt(lines, delimiter=delimiter, ndmin=2)
    except ValueError as error:
        raise damaged(file, error) from None


def numbers_of(values: np.ndarray) -> np.ndarray:
    """(N, D) as rows hold numbers"""
    return np.ascontiguousarray(values, np.float32)
