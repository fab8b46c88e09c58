"""Breast cancer Wisconsin, diagnostic (Street, Wolberg and Mangasarian 1993): 569 tumours by 30 measurements
of their cells; ships inside scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kdx.data.raw import Description
from kdx.data.tables.rows import CLASSES_TASK, Table, TableColumn, describe_table
from kdx.data.tables.shipped import need_shipped, numbers_of, read_numbers, shipped_files

_MEASURED = ("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity")
_MEASURED += ("concave points", "symmetry", "fractal dimension")
_COLUMNS = (
    *(f"mean {name}" for name in _MEASURED),
    *(f"{name} error" for name in _MEASURED),
    *(f"worst {name}" for name in _MEASURED),
)


class BreastCancer:
    """569 rows of 30 numbers, 2 classes: malignant (212) and benign (357)."""

    def files(self) -> list[Path]:
        return shipped_files("breast_cancer.csv")

    def fetch(self) -> None:
        need_shipped("breast_cancer", self.files())

    def describe(self) -> Description:
        return describe_table(self.load())

    def load(self, *, workers: int = 0) -> Table:
        self.fetch()
        table = read_numbers(self.files()[0], skip=1)
        return Table(
            {"train": (numbers_of(table[:, :-1]), table[:, -1].astype(np.int64))},
            tuple(map(TableColumn, _COLUMNS)),
            {"_target_": CLASSES_TASK, "classes": ["malignant", "benign"]},
        )
