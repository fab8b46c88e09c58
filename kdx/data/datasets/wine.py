"""Wine (Forina et al. 1991): 178 wines of three growers by 13 chemical measurements; ships inside
scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kdx.data.raw import Description
from kdx.data.tables.rows import CLASSES_TASK, Table, TableColumn, describe_table
from kdx.data.tables.shipped import need_shipped, numbers_of, read_numbers, shipped_files

_COLUMNS = ("alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids")
_COLUMNS += ("nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue")
_COLUMNS += ("od280/od315_of_diluted_wines", "proline")


class Wine:
    """178 rows of 13 numbers, 3 classes."""

    def files(self) -> list[Path]:
        return shipped_files("wine_data.csv")

    def fetch(self) -> None:
        need_shipped("wine", self.files())

    def describe(self) -> Description:
        return describe_table(self.load())

    def load(self, *, workers: int = 0) -> Table:
        self.fetch()
        table = read_numbers(self.files()[0], skip=1)
        return Table(
            {"train": (numbers_of(table[:, :-1]), table[:, -1].astype(np.int64))},
            tuple(map(TableColumn, _COLUMNS)),
            {"_target_": CLASSES_TASK, "classes": [f"class_{k}" for k in range(3)]},
        )
