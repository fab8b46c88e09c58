"""STL-10 (Coates, Ng and Lee 2011): few labels and a large unlabelled part, as its authors' binary files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kdx.data.loading import (
    NOT_TRIED,
    check_flag,
    check_labels,
    check_path,
    damaged,
    download,
    need,
    per_class,
    read_file,
)
from kdx.data.pictures.rows import Pictures, describe
from kdx.data.raw import Description

_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
_NAMES = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "unlabeled_X.bin")
_PIXELS = 3 * 96 * 96


class Stl10:
    """Colour pictures of 96x96: 5,000 to train with, 8,000 to test, and 100,000 without labels, which are the
    pool.

    root: the folder that holds `stl10_binary`, as torchvision leaves it, or that folder itself.
    """

    def __init__(self, *, root: str, download: bool):
        self._root = check_path("root", root)
        self._download = check_flag("download", download)

    def files(self) -> list[Path]:
        itself = (self._root / _NAMES[0]).is_file()
        folder = self._root if itself else self._root / "stl10_binary"
        return [folder / name for name in _NAMES]

    def fetch(self) -> None:
        why = NOT_TRIED
        if self._download and not self._complete():
            import torchvision

            why = download(
                self._root, lambda: torchvision.datasets.STL10(str(self._root), download=True), self._complete
            )
        need(self.files(), "STL-10", self._root, why)

    def describe(self) -> Description:
        self.fetch()
        train_x, train_y, test_x, test_y, pool = self.files()
        train, test = _labels(train_y, _count(train_x)), _labels(test_y, _count(test_x))
        return describe(
            (3, 96, 96), _CLASSES, len(train), per_class(train, 10), test=len(test), pool=_count(pool)
        )

    def load(self, *, workers: int = 0) -> Pictures:
        """The pictures are memory-mapped views: the unlabelled part alone is 2.8 GB."""
        self.fetch()
        train_x, train_y, test_x, test_y, pool = self.files()
        images, test_images = _images(train_x), _images(test_x)
        return Pictures(
            images,
            _labels(train_y, len(images)),
            _CLASSES,
            test_images,
            _labels(test_y, len(test_images)),
            pool_images=_images(pool),
        )

    def _complete(self) -> bool:
        return all(path.is_file() for path in self.files())


def _count(path: Path) -> int:
    size = path.stat().st_size
    if size == 0 or size % _PIXELS:
        raise damaged(path, f"its {size} bytes are not a whole number of pictures of {_PIXELS} bytes")
    return size // _PIXELS


def _images(path: Path) -> np.ndarray:
    """(N, 3, 96, 96) uint8; the file keeps each channel column by column."""
    return np.memmap(path, np.uint8, mode="r", shape=(_count(path), 3, 96, 96)).transpose(0, 1, 3, 2)


def _labels(path: Path, rows: int) -> np.ndarray:
    """(N,) int64; the file counts classes from 1."""
    labels = check_labels(path, np.frombuffer(read_file(path), np.uint8).astype(np.int64) - 1, 10)
    if len(labels) != rows:
        raise damaged(path, f"it has {len(labels)} labels for {rows} pictures")
    return labels
