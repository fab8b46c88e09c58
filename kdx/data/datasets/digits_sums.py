"""Scikit-learn's digits, each with the sums of its rows and columns beside its picture: a pair of inputs, of
which the teacher reads the picture and the student the sums, or both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kdx.data.datasets.digits import Digits
from kdx.data.loading import check_flag

if TYPE_CHECKING:
    import numpy as np

    from kdx.data.paired import PairedRows
    from kdx.data.raw import Description

_PICTURE, _SUMS = "picture", "sums"


class DigitsSums:
    """1,797 rows. picture: see kdx.data.datasets.digits. sums: 16 numbers, the ink of each of the 8 rows and
    of each of the 8 columns of the 8x8 original, in units of a pixel that is all ink, 0 to 8; with `whole`
    one number, the ink of all of it.

    image_size: side of the pictures, 8 to 256.
    """

    def __init__(self, *, image_size: int, whole: bool = False):
        self._digits = Digits(image_size=image_size)
        self._whole = check_flag("whole", whole)

    def files(self) -> list[Path]:
        return self._digits.files()

    def fetch(self) -> None:
        self._digits.fetch()

    def describe(self) -> Description:
        from kdx.data.paired import describe_paired
        from kdx.data.tables.rows import describe_table

        raw = self.load()
        pictures = self._digits.describe()
        return describe_paired({_PICTURE: pictures, _SUMS: describe_table(raw.inputs[_SUMS])}, pictures)

    def load(self, *, workers: int = 0) -> PairedRows:
        from kdx.data.paired import PairedRows
        from kdx.data.tables.rows import Table, TableColumn

        pictures = self._digits.load(workers=workers)
        columns = [*(f"row_{i}" for i in range(8)), *(f"column_{i}" for i in range(8))]
        sums = sums_of(self._digits.levels())
        if self._whole:
            columns, sums = ["ink"], sums[:, :8].sum(1, keepdims=True)
        table = Table(
            {"train": (sums, pictures.labels)},
            tuple(map(TableColumn, columns)),
            pictures.task,
        )
        return PairedRows.of({_PICTURE: pictures, _SUMS: table}, like=pictures, noun="digit")


def sums_of(levels: np.ndarray) -> np.ndarray:
    """(N, 8, 8) ink in [0, 1] -> (N, 16) float32: of each row, then of each column"""
    import numpy as np

    return np.concatenate([levels.sum(2), levels.sum(1)], 1).astype(np.float32)
