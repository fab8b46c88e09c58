"""Scikit-learn's digits: real handwriting that ships inside a dependency (UCI Optical Recognition of
Handwritten Digits, test part).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from kdx.core.errors import UserError
from kdx.data.loading import check_int, per_class, to_bytes

if TYPE_CHECKING:  # numpy is imported late: of a data set that is in the store only the files are asked for
    import numpy as np

    from kdx.data.pictures.rows import Pictures
    from kdx.data.raw import Description

_CLASSES = tuple("0123456789")


class Digits:
    """1,797 grey pictures of 8x8, enlarged bilinearly to `image_size`. It ships no test part.

    image_size: side of the pictures handed over, 8 to 256.
    """

    def __init__(self, *, image_size: int):
        self._size = check_int("image_size", image_size, 8, 256)

    def files(self) -> list[Path]:
        path = _file()
        return [path] if path else []

    def fetch(self) -> None:
        if importlib.util.find_spec("sklearn") is None:
            raise UserError(
                "dataset=digits ships inside scikit-learn, which is not installed: pip install scikit-learn"
            )

    def describe(self) -> Description:
        from kdx.data.pictures.rows import describe

        _, labels = self._table()
        return describe(
            (1, self._size, self._size), _CLASSES, len(labels), per_class(labels, 10), test=None, pool=0
        )

    def load(self, *, workers: int = 0) -> Pictures:
        from kdx.data.pictures.rows import Pictures

        values, labels = self._table()
        weights = enlarge(8, self._size)
        images = weights @ (values.reshape(-1, 8, 8) * (255 / 16)) @ weights.T
        return Pictures(to_bytes(images)[:, None], labels, _CLASSES)

    def levels(self) -> np.ndarray:
        """(1797, 8, 8) float64 in [0, 1]: the originals."""
        return self._table()[0].reshape(-1, 8, 8) / 16

    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """(1797, 64) in 0..16 and (1797,). Reads the file itself where it can: importing scikit-learn takes a
        second.
        """
        import numpy as np

        self.fetch()
        path = _file()
        if path:
            table = np.loadtxt(path, delimiter=",")
            return table[:, :-1], table[:, -1].astype(np.int64)
        from sklearn.datasets import load_digits

        digits = load_digits()
        return digits.data, digits.target.astype(np.int64)


def enlarge(old: int, new: int) -> np.ndarray:
    """The (new, old) matrix of linear interpolation along one side, pixel centres aligned as PyTorch's
    `align_corners=False` does.
    """
    import numpy as np

    at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    left = np.minimum(at.astype(int), old - 2)
    weights = np.zeros((new, old))
    weights[np.arange(new), left] = 1 - (at - left)
    weights[np.arange(new), left + 1] = at - left
    return weights


def _file() -> Path | None:
    spec = importlib.util.find_spec("sklearn")
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / "datasets" / "data" / "digits.csv.gz" if folders else None
    return path if path and path.is_file() else None
