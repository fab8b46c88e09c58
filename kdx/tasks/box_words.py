"""Boxes in words, for people and for files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kdx.tasks.box_answers import BOXES, CLASSES, SCORES

NO_BOX = "no box"


def counted_boxes(names: Sequence[str], kinds: Sequence[int]) -> str:
    """ "circle, 2 square","""
    often = [(kinds.count(kind), name) for kind, name in enumerate(names)]
    return ", ".join(f"{count} {name}" if count > 1 else name for count, name in often if count) or NO_BOX


def outlined_boxes(
    names: Sequence[str], found: Sequence[tuple[Tensor, Tensor]]
) -> list[list[dict[str, Any]]]:
    """Of each row its boxes and classes, as they are drawn."""
    return [
        [
            {"box": [round(side, 2) for side in box], "words": names[kind]}
            for box, kind in zip(boxes.tolist(), kinds.tolist(), strict=True)
        ]
        for boxes, kinds in found
    ]


def boxes_in_words(names: Sequence[str], named: Mapping[str, Tensor], kept: Tensor) -> list[str]:
    """Of each row class, how sure (of the truth not) and x1 y1 x2 y2 of each box that is kept, divided by
    semicolons. kept: (B, D) bool."""
    return [
        _line(names, {name: leaf[row] for name, leaf in named.items()}, there)
        for row, there in enumerate(kept)
    ]


def coco_results(ids: Sequence[int], named: Mapping[str, Tensor]) -> list[list[dict[str, Any]]]:
    """Of each row its boxes, the surest first, in COCO's form of results: left, top, width, height. ids: of
    the classes."""
    rows = zip(named[BOXES].tolist(), named[SCORES].tolist(), named[CLASSES].tolist(), strict=True)
    return [
        [
            {
                "category_id": ids[kind],
                "bbox": [round(x, 2) for x in (box[0], box[1], box[2] - box[0], box[3] - box[1])],
                "score": round(sure, 5),
            }
            for box, sure, kind in zip(*row, strict=True)
            if kind >= 0
        ]
        for row in rows
    ]


def _line(names: Sequence[str], row: Mapping[str, Tensor], kept: Tensor) -> str:
    found = []
    for place in kept.nonzero().flatten().tolist():
        sure = f" {row[SCORES][place]:.3f}" if SCORES in row else ""
        sides = " ".join(f"{side:.1f}" for side in row[BOXES][place].tolist())
        found.append(f"{names[int(row[CLASSES][place])]}{sure} {sides}")
    return "; ".join(found) or NO_BOX
