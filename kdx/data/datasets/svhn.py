"""SVHN: house numbers cropped from street pictures (Netzer et al. 2011), format 2, as its authors' .mat
files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kdx.core import shortage
from kdx.data.loading import (
    NOT_TRIED,
    check_flag,
    check_labels,
    check_path,
    damaged,
    download,
    need,
    per_class,
)
from kdx.data.pictures.rows import Pictures, describe
from kdx.data.raw import Description

_CLASSES = tuple("0123456789")
_PARTS = ("train", "test", "extra")


class Svhn:
    """Colour pictures of 32x32: 73,257 to train with and 26,032 to test. The files call the digit 0 "10";
    here it is class 0.

    root: the folder that holds train_32x32.mat and test_32x32.mat. extra: whether extra_32x32.mat, 531,131
    easier pictures, is the pool; its labels are not looked at.
    """

    def __init__(self, *, root: str, extra: bool, download: bool):
        self._root = check_path("root", root)
        self._parts = _PARTS if check_flag("extra", extra) else _PARTS[:2]
        self._download = check_flag("download", download)

    def files(self) -> list[Path]:
        return [self._root / f"{part}_32x32.mat" for part in self._parts]

    def fetch(self) -> None:
        why = NOT_TRIED
        if self._download and not self._complete():
            import torchvision

            def every() -> None:
                for part in self._parts:
                    torchvision.datasets.SVHN(str(self._root), split=part, download=True)

            why = download(self._root, every, self._complete)
        need(self.files(), "SVHN", self._root, why)

    def describe(self) -> Description:
        self.fetch()
        train, test, *extra = (_labels(path, _matrix(path, "y")) for path in self.files())
        return describe(
            (3, 32, 32), _CLASSES, len(train), per_class(train, 10), test=len(test), pool=sum(map(len, extra))
        )

    def load(self, *, workers: int = 0) -> Pictures:
        self.fetch()
        (images, labels), (test_images, test_labels), *extra = (_read(path) for path in self.files())
        return Pictures(images, labels, _CLASSES, test_images, test_labels, extra[0][0] if extra else None)

    def _complete(self) -> bool:
        return all(path.is_file() for path in self.files())


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3, 32, 32) uint8 and (N,) int64"""
    images, labels = _matrix(path, "X"), _labels(path, _matrix(path, "y"))
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[:3] != (32, 32, 3)
        or images.shape[3] != len(labels)
    ):
        raise damaged(
            path,
            f"'X' is {images.dtype} of shape {images.shape} beside {len(labels)} labels, "
            "not bytes of (32, 32, 3, N)",
        )
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), labels


def _matrix(path: Path, name: str) -> np.ndarray:
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=[name])
    except Exception as error:  # scipy raises many kinds for bytes that are no .mat file
        if shortage.kind_of_shortage(error):
            raise
        raise damaged(path, f"it is not a complete .mat file ({error})") from None
    if name not in content:
        raise damaged(path, f"it has no matrix '{name}'")
    return content[name]


def _labels(path: Path, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "uif":
        raise damaged(path, f"its labels are of the type {values.dtype}")
    labels = values.reshape(-1).astype(np.int64)
    return check_labels(path, np.where(labels == 10, 0, labels), 10)
