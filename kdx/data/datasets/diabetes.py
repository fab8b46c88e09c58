"""Diabetes (Efron, Hastie, Johnstone and Tibshirani 2004, "Least Angle Regression"): how far the disease of
442 patients went in a year; ships inside scikit-learn."""

from __future__ import annotations

from pathlib import Path

from kdx.data.tables.rows import NUMBERS_TASK, Table, TableColumn
from kdx.data.tables.shipped import ShippedTable, numbers_of, read_numbers

_COLUMNS = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")


class Diabetes(ShippedTable):
    """442 rows of 10 numbers, unscaled; the target, "progression", is from 25 to 346."""

    option = "diabetes"
    names = ("diabetes_data_raw.csv.gz", "diabetes_target.csv.gz")

    def table(self, *files: Path) -> Table:
        values, truth = (read_numbers(file, delimiter=None) for file in files)
        return Table(
            {"train": (numbers_of(values), numbers_of(truth))},
            tuple(map(TableColumn, _COLUMNS)),
            {"_target_": NUMBERS_TASK, "names": ["progression"]},
        )
