"""A torch `Dataset` as a data set of pictures: what a class of the user's own derives from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdx.core.errors import WrongPart
from kdx.data.loading import check_path
from kdx.data.pictures.given import (
    GivenPart,
    GivenPictures,
    Labelled,
    as_picture,
    labels_of,
    named_classes,
    size_of,
)
from kdx.data.pictures.rows import Pictures
from kdx.data.pictures.square import Square
from kdx.data.raw import PARTS, Description
from kdx.data.stored import InMemory, Writers


class TorchDataset(ABC):
    """Pictures with one class each, of map-style Datasets that give (picture, label): `dataset` says which.

    A picture is a PIL image, a tensor (C, H, W) or (H, W), or an array (H, W, C) or (H, W), of uint8 or of
    floats in [0, 1]; all become squares of bytes of `image_size` pixels a side (fit, background: see
    kdx.data.pictures.square), of one channel where the first picture to train with has one. A label is a
    whole number from 0. Where a Dataset has `targets` or `labels` few pictures are read to count them, each
    row must have the label that stands there, and its
    `classes`, where it has some, are their names. One that draws at random is refused: that is
    for `augment=`.

    read: the files and folders that the Datasets read, by whose content the data are known; () where they
    read none.
    """

    streams = True
    _read: list[Path] | None = None
    """None until `__init__` is called, which who derives from it may forget."""

    def __init__(
        self,
        *,
        image_size: int,
        read: Sequence[str | Path],
        fit: str = "crop",
        background: Any = "white",
    ):
        self._square = Square(image_size=image_size, fit=fit, background=background)
        if isinstance(read, str | Path):
            read = [read]
        self._read = [check_path("root", path) for path in read]
        self._given: GivenPictures | None = None

    @abstractmethod
    def dataset(self, part: str) -> Any:
        """part: "train", "validation", "test" or "unlabelled" -> a Dataset, None: there is none. Of the pool
        labels are not looked at."""

    def files(self) -> list[Path]:
        if self._read is None:
            raise WrongPart(
                f"{type(self).__name__}.__init__ must call super().__init__(image_size=..., read=...)"
            )
        return self._read

    def fetch(self) -> None:
        for path in self.files():
            if not path.exists():
                raise WrongPart(f"{type(self).__name__} reads '{path}', which is not there")

    def describe(self) -> Description:
        given = self._opened()
        who = f"{given.who}: row 0 of the train part"
        first, again = (as_picture(given.parts["train"].picture(0), who) for _ in range(2))
        if first.tobytes() != again.tobytes():
            raise WrongPart(
                f"{who} is another picture each time: take what draws at random out of the Dataset, and name "
                "it in augment= (docs/your-own.md)"
            )
        return given.describe()

    def load(self, *, workers: int = 0, write: Writers = InMemory) -> Pictures:
        return self._opened().load(write)

    def _opened(self) -> GivenPictures:
        if self._given is None:
            who, parts, names = type(self).__name__, {}, None
            for part in PARTS:
                rows, what = self.dataset(part), f"{who}: the {part} part"
                if rows is None:
                    continue
                size_of(rows, what)
                if part == "unlabelled":
                    parts[part] = GivenPart(rows, None)
                else:
                    labelled = Labelled(rows, labels_of(rows, what), what)
                    labelled.try_some()
                    parts[part] = GivenPart(labelled, labelled.labels)
                names = getattr(rows, "classes", None) if part == "train" else names
            if "train" not in parts:
                raise WrongPart(f'{who}.dataset("train") gives None: it must give the Dataset to train with')
            labels = {part: found.labels for part, found in parts.items() if found.labels is not None}
            self._given = GivenPictures(parts, named_classes(names, labels, who), self._square, who)
        return self._given
