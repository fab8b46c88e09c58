"""Pictures with one class each, as their loaders hand them over. Numpy and the standard library only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from kdx.data.pictures import findings
from kdx.data.pictures.fitted import in_shape
from kdx.data.raw import Description, Note, Raw, Skipped
from kdx.data.stored import BLOCK_BYTES, LazyRows, in_blocks, taken

FLOOR = 1e-3
"""The least standard deviation that pictures are divided by, of the way from black to white."""
SAMPLED_PICTURES = 2000
"""Pictures of each split by which the mean and the deviation are found where they stay in their files."""
READS = "pictures"
TASK, ADAPTER = "kdx.tasks.classification.Classification", "kdx.models.adapt.PictureAdapter"
PART_FIELDS = {
    "train": ("images", "labels"),
    "validation": ("validation_images", "validation_labels"),
    "test": ("test_images", "test_labels"),
    "unlabelled": ("pool_images", None),
}
"""What a data set may ship -> its pictures and its labels in `Pictures`."""


def describe(
    shape: tuple[int, int, int],
    classes: Sequence[str],
    train: int,
    train_per_class: Sequence[int],
    test: int | None,
    pool: int,
    test_size_is_a_fallback: bool = False,
    validation: int | None = None,
) -> Description:
    """The Description of pictures of `shape` (C, H, W), uint8, with one class each. train_per_class: rows of
    the train part by class; the others as there.
    """
    return Description(
        {"_target_": TASK, "classes": list(classes)},
        {"": (tuple(shape), "uint8")},
        READS,
        train,
        tuple(train_per_class),
        test,
        pool,
        test_size_is_a_fallback,
        validation,
        {"_target_": ADAPTER, "mean": [0.5] * shape[0], "std": [0.5] * shape[0]},
    )


@dataclass(frozen=True, eq=False)
class Pictures(Raw):
    """images (N, C, H, W) uint8 and labels (N,) int64 are the train part; test_* and validation_* such parts
    that the set ships, if any; pool_images (P, C, H, W) uint8 the pictures that it ships without labels, if
    any.

    sizes: (M, 2), width and height of the files as stored, where they differ. files: what data.json tells of
    the files, as JSON. transparent: names of pictures behind which the background may show. The others: see
    Raw.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    test_images: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    pool_images: np.ndarray | None = None
    skipped: Skipped = ()
    validation_images: np.ndarray | None = None
    validation_labels: np.ndarray | None = None
    notes: tuple[Note, ...] = ()
    sizes: np.ndarray | None = None
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    transparent: frozenset[str] = frozenset()
    reads: str = READS
    noun: str = "picture"

    @property
    def task(self) -> Mapping[str, Any]:
        return {"_target_": TASK, "classes": list(self.classes)}

    def part(self, name: str) -> tuple[np.ndarray | None, np.ndarray | None]:
        images, labels = PART_FIELDS[name]
        return getattr(self, images), getattr(self, labels) if labels else None

    def only(self, rows: Mapping[str, np.ndarray]) -> Self:
        fewer = {
            field: taken(array, rows[part])
            for part in rows
            for field, array in zip(PART_FIELDS[part], self.part(part), strict=True)
            if array is not None
        }
        names = {
            part: [known[i] for i in rows[part]] if part in rows else known
            for part, known in self.names.items()
        }
        return replace(self, **fewer, names=names)

    def strata(self, part: str) -> np.ndarray | None:
        return self.part(part)[1]

    def in_form_of(self, wanted: Any, inputs: Any) -> Any:
        channels, height, width = wanted.shape[1:]
        return in_shape(inputs, (channels, height, width))

    def adapter(self, seen: Sequence[np.ndarray]) -> tuple[Mapping[str, Any], list[Note]]:
        mean, std = channel_statistics([_some(part) for part in seen])
        return {"_target_": ADAPTER, "mean": mean, "std": std}, list(findings.floored(std, FLOOR))

    def about(self) -> dict[str, Any]:
        return {"sizes": sizes_of(self.sizes)} if self.sizes is not None and len(self.sizes) else {}

    def look(
        self, inputs: Mapping[str, np.ndarray], name: Callable[[str, int], str]
    ) -> tuple[list[Note], dict[str, Any]]:
        if isinstance(self.images, LazyRows) and not self.images.cheap:
            return [], {"files": dict(self.files)} if self.files else {}
        dull, flat = findings.constant_pictures(inputs, name, self.transparent)
        return dull, {"flat": flat, **({"files": dict(self.files)} if self.files else {})}

    def in_words(self) -> str:
        """The shape, and the sizes of the files where they are squares no longer."""
        line = f"pictures of {'x'.join(map(str, self.images.shape[1:]))}"
        if self.sizes is None or not len(self.sizes):
            return line
        found = {name: "x".join(map(str, size)) for name, size in sizes_of(self.sizes).items()}
        if found["smallest"] == found["largest"]:
            return f"{line}, from files of {found['median']}"
        return f"{line}, from files of {found['smallest']} to {found['largest']} (median {found['median']})"


def sizes_of(found: np.ndarray) -> dict[str, list[int]]:
    """(N, 2), width and height -> those with the least and the greatest area, and the median of each side."""
    order = found.prod(1).argsort(kind="stable")
    return {
        "smallest": found[order[0]].tolist(),
        "largest": found[order[-1]].tolist(),
        "median": np.median(found, axis=0).astype(int).tolist(),
    }


def _some(images: Any) -> Any:
    """At most SAMPLED_PICTURES pictures, evenly over those that are dear to read; else all."""
    if not isinstance(images, LazyRows) or images.cheap or len(images) <= SAMPLED_PICTURES:
        return images
    return images.take(np.unique(np.linspace(0, len(images) - 1, SAMPLED_PICTURES).astype(np.int64)))


def channel_statistics(parts: Sequence[np.ndarray | LazyRows]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in units of [0, 1], over the pictures that training may
    see: no validation, no test. From how often each level is there, so that no order of the rows changes a
    bit.
    """
    import torch

    from kdx.core.levels import as_float

    channels = parts[0].shape[1]
    often = np.zeros((channels, 256), np.int64)
    for images in parts:
        for block in in_blocks(images, BLOCK_BYTES // 4):
            for channel in range(channels):
                levels = np.ascontiguousarray(block[:, channel]).reshape(-1)
                often[channel] += np.bincount(levels, minlength=256)
    levels = as_float(torch.arange(256, dtype=torch.uint8), torch.float64).numpy()
    mean, squares = (often @ powers / often.sum(1) for powers in (levels, levels**2))
    std = np.sqrt(np.maximum(squares - mean**2, FLOOR**2))
    return mean.round(6).tolist(), std.round(6).tolist()
