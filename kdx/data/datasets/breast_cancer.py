"""Breast cancer Wisconsin, diagnostic (Street, Wolberg and Mangasarian 1993): 569 tumours by 30 measurements
of their cells; ships inside scikit-learn."""

from __future__ import annotations

from pathlib import Path

from kdx.data.tables.rows import Table
from kdx.data.tables.shipped import ShippedTable, read_numbers, table_of_classes

_MEASURED = ("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity")
_MEASURED += ("concave points", "symmetry", "fractal dimension")
_COLUMNS = (
    *(f"mean {name}" for name in _MEASURED),
    *(f"{name} error" for name in _MEASURED),
    *(f"worst {name}" for name in _MEASURED),
)


class BreastCancer(ShippedTable):
    """569 rows of 30 numbers, 2 classes: malignant (212) and benign (357)."""

    option = "breast_cancer"
    names = ("breast_cancer.csv",)

    def table(self, *files: Path) -> Table:
        return table_of_classes(read_numbers(files[0], skip=1), _COLUMNS, ["malignant", "benign"])
