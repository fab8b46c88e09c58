"""Wine (Forina et al. 1991): 178 wines of three growers by 13 chemical measurements; ships inside
scikit-learn."""

from __future__ import annotations

from pathlib import Path

from kdx.data.tables.rows import Table
from kdx.data.tables.shipped import ShippedTable, read_numbers, table_of_classes

_COLUMNS = ("alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids")
_COLUMNS += ("nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue")
_COLUMNS += ("od280/od315_of_diluted_wines", "proline")


class Wine(ShippedTable):
    """178 rows of 13 numbers, 3 classes."""

    option = "wine"
    names = ("wine_data.csv",)

    def table(self, *files: Path) -> Table:
        return table_of_classes(read_numbers(files[0], skip=1), _COLUMNS, [f"class_{k}" for k in range(3)])
