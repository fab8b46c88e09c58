"""Data sets in the IDX format of MNIST (Fashion-MNIST and its kin): big-endian header, then bytes; plain or
gzipped.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdx.core import checks
from kdx.core.errors import UserError
from kdx.data.loading import (
    NOT_TRIED,
    check_flag,
    check_labels,
    check_path,
    damaged,
    download,
    per_class,
    read_file,
)
from kdx.data.pictures.rows import Pictures, describe
from kdx.data.raw import Description

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class Idx:
    """Grey pictures and their labels in four IDX files, `NAMES`, each with or without `.gz`.

    root: the folder that holds them, itself or in torchvision's `<torchvision>/raw`; None: the first of
    usual_root (where a download goes) and system_root (where a package of the system puts them, or None) that
    has them. A root that is given is the only one looked in. classes: their names in the order of the labels.
    torchvision: the name of torchvision's class of this set, which downloads it.
    """

    def __init__(
        self,
        *,
        root: str | None,
        usual_root: str,
        system_root: str | None,
        classes: Sequence[str],
        torchvision: str,
        download: bool,
    ):
        places = {"usual_root": usual_root, "system_root": system_root} if root is None else {"root": root}
        self._places = [
            check_path(key, place)
            for key, place in places.items()
            if place is not None or key == "usual_root"
        ]
        if not isinstance(classes, list | tuple) or len(classes) < 2:
            raise UserError(
                f"dataset.classes must name the classes, two or more of them; given: {checks.shown(classes)}"
            )
        self._classes = tuple(str(name) for name in classes)
        self._torchvision = checks.choice(
            "dataset.torchvision", torchvision, ("MNIST", "FashionMNIST", "KMNIST")
        )
        self._download = check_flag("download", download)

    def files(self) -> list[Path]:
        for place in self._places:
            found = self._found(place)
            if all(found):
                return found
        return []

    def fetch(self) -> None:
        why = NOT_TRIED
        if self.files():
            return
        if self._download:
            import torchvision

            kind = getattr(torchvision.datasets, self._torchvision)
            root = self._places[0]
            why = download(root, lambda: kind(str(root), download=True), lambda: bool(self.files()))
        if not self.files():
            missing = next(
                name for name, path in zip(NAMES, self._found(self._places[0]), strict=True) if path is None
            )
            looked = " and ".join(f"'{place}'" for place in self._places)
            raise UserError(
                f"the data file '{missing}' (or '{missing}.gz') is missing; looked for in {looked}: "
                f"set dataset.root=PATH{why}"
            )

    def describe(self) -> Description:
        self.fetch()
        images, labels, test_images, test_labels = self.files()
        shape, test_shape = _header(images, 3), _header(test_images, 3)
        train, test = self._labels(labels, shape[0]), self._labels(test_labels, test_shape[0])
        if shape[1:] != test_shape[1:]:
            raise damaged(
                test_images, f"its pictures are {test_shape[1:]}, those of '{images.name}' {shape[1:]}"
            )
        return describe(
            (1, *shape[1:]),
            self._classes,
            len(train),
            per_class(train, len(self._classes)),
            test=len(test),
            pool=0,
        )

    def load(self, *, workers: int = 0) -> Pictures:
        self.fetch()
        images, labels, test_images, test_labels = self.files()
        train, test = read_idx(images, 3)[:, None], read_idx(test_images, 3)[:, None]
        return Pictures(
            train, self._labels(labels, len(train)), self._classes, test, self._labels(test_labels, len(test))
        )

    def _found(self, place: Path) -> list[Path | None]:
        """The four files in this place, None for each that is not there."""
        options = (
            [f / n for f in (place, place / self._torchvision / "raw") for n in (name, f"{name}.gz")]
            for name in NAMES
        )
        return [next((path for path in paths if path.is_file()), None) for paths in options]

    def _labels(self, path: Path, rows: int) -> np.ndarray:
        labels = check_labels(path, read_idx(path, 1), len(self._classes))
        if len(labels) != rows:
            raise damaged(path, f"it has {len(labels)} labels for {rows} pictures")
        return labels


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The bytes of an IDX file with as many dimensions, uint8.
    A file of another kind or length is a UserError.
    """
    shape = _header(path, dimensions)
    content = read_file(path)[4 + 4 * dimensions :]
    if len(content) != math.prod(shape):
        raise damaged(path, f"it should hold {math.prod(shape)} bytes of data and holds {len(content)}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _header(path: Path, dimensions: int) -> tuple[int, ...]:
    """The shape that the file claims, once its length bears it out. Unpacks nothing: gzip notes the length in
    its last four bytes.
    """
    length = 4 + 4 * dimensions
    start = read_file(path, length)
    if len(start) < length or start[:4] != bytes([0, 0, 8, dimensions]):
        raise damaged(path, f"it does not begin as an IDX file of {dimensions}-dimensional bytes does")
    shape = struct.unpack(f">{dimensions}I", start[4:])
    wanted = length + math.prod(shape)
    holds = path.stat().st_size
    if path.suffix == ".gz":
        with path.open("rb") as file:
            file.seek(-4, 2)
            if struct.unpack("<I", file.read(4))[0] == wanted % 2**32:
                return shape
        # several gzip members, or bytes behind them, are allowed; a cut file is a UserError
        holds = len(read_file(path))
    if holds != wanted:
        raise damaged(path, f"it should hold {wanted} bytes and holds {holds}")
    return shape
