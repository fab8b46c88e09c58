"""Pictures with boxes in them, as their loaders hand them over. Numpy and the standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from kdx.core.several import BOXED
from kdx.data.pictures import findings
from kdx.data.pictures.rows import ADAPTER, FLOOR, channel_statistics
from kdx.data.raw import Description, Note, Raw, Skipped, fewer_names, fewer_parts

_TASK = "kdx.tasks.detection.Detection"
BoxTruth = Mapping[str, np.ndarray]
"""boxes (N, M, 4) float32, x1, y1, x2, y2 in pixels, and classes (N, M) int64, -1: no box."""


@dataclass(frozen=True)
class Located:
    """What a detector must know beside the pictures: stride of the first level of its places, how many
    levels there are, and from which confidence on a box counts for F1."""

    stride: int
    levels: int
    sure: float

    def task(
        self, names: Sequence[str], size: tuple[int, int], ids: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """names: of the classes; size: height and width; ids: by which files call the classes."""
        found = {"_target_": _TASK, "names": list(names), "height": size[0], "width": size[1], **vars(self)}
        return found if ids is None else {**found, "ids": list(ids)}


def describe_boxed(task: Mapping[str, Any], channels: int, rows: Mapping[str, int]) -> Description:
    """rows: of each part that there is."""
    return Description(
        task,
        {"": ((channels, task["height"], task["width"]), "uint8")},
        BOXED,
        rows["train"],
        test=rows.get("test"),
        pool=rows.get("unlabelled", 0),
        test_size_is_a_fallback=True,
        validation=rows.get("validation"),
        adapter={"_target_": ADAPTER, "mean": [0.5] * channels, "std": [0.5] * channels},
    )


def padded(rows: Sequence[tuple[np.ndarray, np.ndarray]], most: int) -> dict[str, np.ndarray]:
    """Boxes (n, 4) and classes (n,) of each row, n at most `most` -> the truth of all of them."""
    boxes = np.zeros((len(rows), most, 4), np.float32)
    classes = np.full((len(rows), most), -1, np.int64)
    for place, (found, kinds) in enumerate(rows):
        boxes[place, : len(kinds)], classes[place, : len(kinds)] = found, kinds
    return {"boxes": boxes, "classes": classes}


@dataclass(frozen=True, eq=False)
class BoxedPictures(Raw):
    """parts: name -> (pictures (N, C, H, W) uint8, BoxTruth), of "unlabelled" truth None. found: what
    data.json tells of how boxes were read, as JSON."""

    parts: Mapping[str, tuple[Any, Any]]
    task: Mapping[str, Any]
    reads: str = BOXED
    noun: str = "picture"
    notes: tuple[Note, ...] = ()
    skipped: Skipped = ()
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    found: Mapping[str, Any] = field(default_factory=dict)

    def part(self, name: str) -> tuple[Any, Any]:
        return self.parts.get(name, (None, None))

    def only(self, rows: Mapping[str, np.ndarray]) -> Self:
        return replace(self, parts=fewer_parts(self.parts, rows), names=fewer_names(self.names, rows))

    def adapter(self, seen: Sequence[np.ndarray]) -> tuple[Mapping[str, Any], list[Note]]:
        mean, std = channel_statistics(seen)
        return {"_target_": ADAPTER, "mean": mean, "std": std}, list(findings.floored(std, FLOOR))

    def about(self) -> dict[str, Any]:
        return {"boxes": dict(self.found)} if self.found else {}

    def in_words(self) -> str:
        images, truth = self.parts["train"]
        boxes = int((truth["classes"] >= 0).sum())
        return (
            f"pictures of {'x'.join(map(str, images.shape[1:]))} with {boxes:,} boxes of "
            f"{len(self.task['names'])} classes in the train part"
        )
