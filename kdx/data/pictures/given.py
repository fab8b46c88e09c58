"""Pictures that come one by one with their labels, as a Dataset gives them, in place of files: checked, and
made squares of bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdx.core.errors import WrongPart, type_name
from kdx.data.loading import per_class, to_bytes
from kdx.data.pictures.rows import Pictures, describe
from kdx.data.pictures.square import Square
from kdx.data.raw import Description
from kdx.data.stored import Writers

_BLOCK = 256
"""Pictures that are handed on together."""
_ROWS_TRIED = 8
_DEEPER = ("I", "F")
"""Modes of PIL with more than eight bits: their black and white are not known."""


@dataclass(frozen=True)
class GivenPart:
    """rows: what `rows[i]` gives for i below its length: (picture, label), of the pool a picture or a tuple
    that begins with one. labels: (N,) int64, None of the pool."""

    rows: Any
    labels: np.ndarray | None

    def picture(self, row: int) -> Any:
        found = self.rows[row]
        return found[0] if isinstance(found, tuple | list) else found


@dataclass(frozen=True)
class GivenPictures:
    """parts: by name, with "train". who: the loader, in sentences."""

    parts: Mapping[str, GivenPart]
    classes: tuple[str, ...]
    square: Square
    who: str

    def describe(self) -> Description:
        """Of it one picture is read."""
        rows = {part: len(found.rows) for part, found in self.parts.items()}
        labels = self.parts["train"].labels
        assert labels is not None
        side = self.square.size
        return describe(
            (1 if self._grey() else 3, side, side),
            self.classes,
            rows["train"],
            per_class(labels, len(self.classes)),
            rows.get("test"),
            rows.get("unlabelled", 0),
            test_size_is_a_fallback=True,
            validation=rows.get("validation"),
        )

    def load(self, write: Writers) -> Pictures:
        grey, made = self._grey(), {}
        shape = (1 if grey else 3, self.square.size, self.square.size)
        for name, part in self.parts.items():
            writer = write(name, len(part.rows), shape, np.uint8)
            for block in self._blocks(name, part, grey):
                writer.append(block)
            made[name] = writer.close()
        labels = {name: part.labels for name, part in self.parts.items()}
        return Pictures(
            made["train"],
            labels["train"],
            self.classes,
            made.get("test"),
            labels.get("test"),
            made.get("unlabelled"),
            (),
            made.get("validation"),
            labels.get("validation"),
        )

    def _grey(self) -> bool:
        """Whether the first picture to train with has one channel."""
        picture = as_picture(self.parts["train"].picture(0), f"{self.who}: row 0 of the train part")
        return picture.mode in ("1", "L")

    def _blocks(self, name: str, part: GivenPart, grey: bool) -> Iterator[np.ndarray]:
        count = len(part.rows)
        for start in range(0, count, _BLOCK):
            yield np.stack(
                [
                    self.square.of_picture(
                        as_picture(part.picture(row), f"{self.who}: row {row} of the {name} part"), grey
                    )
                    for row in range(start, min(start + _BLOCK, count))
                ]
            )


def as_picture(given: Any, what: str) -> Any:
    """A PIL image of eight bits, of one or three channels or with transparency. given: such an image, or an
    array or tensor (H, W), (H, W, C), or of a tensor (C, H, W), of uint8 or of floats in [0, 1]. what: whose
    it is. Raises WrongPart.
    """
    from PIL import Image

    if isinstance(given, Image.Image):
        if given.mode.partition(";")[0] in _DEEPER or ";16" in given.mode:
            raise WrongPart(
                f"{what} is a picture of more than 8 bits ({given.mode}), whose black and white are not "
                "known: give floats in [0, 1]"
            )
        return given
    tensor = type(given).__module__.partition(".")[0] == "torch"
    if not tensor and not isinstance(given, np.ndarray):
        raise WrongPart(
            f"{what} gives {type_name(given)} for a picture: it must give (picture, label), the picture a "
            "PIL image, a tensor (C, H, W) or an array (H, W, C)"
        )
    array = given.detach().cpu().numpy() if tensor else given
    if tensor and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or not array.size:
        wanted = "(H, W), (1, H, W) or (3, H, W)" if tensor else "(H, W), (H, W, 1) or (H, W, 3)"
        raise WrongPart(f"{what} gives a picture of shape {tuple(given.shape)}: it must be {wanted}")
    return Image.fromarray(_levels(array, what))


def _levels(array: np.ndarray, what: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.kind != "f":
        raise WrongPart(
            f"{what} gives a picture of {array.dtype}: give uint8, 0 black and 255 white, or floats in [0, 1]"
        )
    if not np.isfinite(array).all():
        raise WrongPart(f"{what} gives a picture with NaN or infinite numbers: give floats in [0, 1]")
    if array.min() < 0 or array.max() > 1:
        raise WrongPart(
            f"{what} gives a picture of floats from {array.min():.3g} to {array.max():.3g}: give them in "
            "[0, 1], and leave the normalisation out, as networks have it built in"
        )
    return to_bytes(array * 255)


def labels_of(rows: Any, what: str) -> np.ndarray:
    """(N,) int64: the labels of a Dataset, from its `targets` or `labels` where it has one for each row; else
    every row is asked. what: whose, as in "Flags: the train part". Raises WrongPart where one is no class.
    """
    count = size_of(rows, what)
    for name in ("targets", "labels"):
        found = getattr(rows, name, None)
        if found is not None and not callable(found) and len(found) == count:
            return _classes([_plain(label) for label in found], what)
    found = []
    for row in range(count):
        found.append(_plain(_pair(rows[row], row, what)[1]))
    return _classes(found, what)


class Labelled:
    """The rows of a Dataset, each held to the labels that are known of it: those of `targets` are read
    alone, and a `target_transform` changes those of the rows alone. labels: (N,) int64. what: as above.
    """

    def __init__(self, rows: Any, labels: np.ndarray, what: str):
        self.rows, self.labels, self.what = rows, labels, what

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        """(picture, label). Raises WrongPart."""
        picture, label = _pair(self.rows[row], row, self.what)
        if (label := _plain(label)) != self.labels[row]:
            raise WrongPart(
                f"{self.what}, row {row}, gives the label {label!r:.40}, and its `targets` or `labels` hold "
                f"{self.labels[row]} (a target_transform changes the one alone): wrap it in a Dataset of "
                "__len__ and __getitem__ only, whose rows are asked"
            )
        return picture, label

    def try_some(self) -> None:
        """Looks at the first row of a few classes, as rows of one class are often changed alike."""
        first = np.unique(self.labels, return_index=True)[1]
        for row in first[:: -(-len(first) // _ROWS_TRIED)].tolist():
            self[row]


def _pair(found: Any, row: int, what: str) -> tuple[Any, Any]:
    if not isinstance(found, tuple | list) or len(found) != 2:
        given = f"{len(found)} things" if isinstance(found, tuple | list) else type_name(found)
        raise WrongPart(f"{what}, row {row}, gives {given}: it must give (picture, label)")
    return found[0], found[1]


def size_of(rows: Any, what: str) -> int:
    """How many rows a Dataset has. Raises WrongPart where it is none of the map-style."""
    if getattr(type(rows), "__getitem__", None) is None or getattr(type(rows), "__len__", None) is None:
        raise WrongPart(
            f"{what} is {type_name(rows)}: it must be a Dataset with __len__ and __getitem__ (one that is "
            "iterated over only has no rows by number)"
        )
    if not len(rows):
        raise WrongPart(f"{what} has no rows")
    return len(rows)


def _plain(label: Any) -> Any:
    """Of a tensor or an array of one number that number."""
    return label.item() if getattr(label, "ndim", None) == 0 else label


def _classes(labels: Sequence[Any], what: str) -> np.ndarray:
    for row, label in enumerate(labels):
        if isinstance(label, bool) or not isinstance(label, int | np.integer) or label < 0:
            raise WrongPart(
                f"{what}, row {row}, has the label {label!r:.40}: labels are whole numbers from 0, the "
                "number of the class"
            )
    return np.array(labels, np.int64)


def named_classes(names: Sequence[str] | None, labels: Mapping[str, np.ndarray], who: str) -> tuple[str, ...]:
    """The classes by number. names: what they are called; None: by their numbers. labels: by part. Raises
    UserError where a label is beyond them, or the train part lacks one.
    """
    most = max(int(found.max()) for found in labels.values()) + 1
    classes = tuple(map(str, range(most))) if names is None else tuple(map(str, names))
    for part, found in labels.items():
        if found.max() >= len(classes):
            row = int(found.argmax())
            raise WrongPart(
                f"{who}: row {row} of the {part} part has the label {found[row]}, and there are "
                f"{len(classes)} classes, from 0 to {len(classes) - 1}"
            )
    if missing := sorted(set(range(len(classes))) - set(labels["train"].tolist())):
        raise WrongPart(
            f"{who}: the train part has no row of the class {missing[0]} ('{classes[missing[0]]}'): labels "
            "are numbered from 0 without gaps"
        )
    return classes
