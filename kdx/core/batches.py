"""Rows: of a split as they are stored, and of a batch as a network sees them. They name no modality and
no task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kdx.core.answers import Answers
from kdx.core.levels import as_float
from kdx.core.trees import Tree, device_of, moved, part_of, rows_of, tree
from kdx.core.warp import Warp

Inputs = Tree
"""What a network reads of B rows: one tensor, or a few of them by name. Pictures are (B, C, H, W) float in
[0, 1]."""


@dataclass(frozen=True)
class Batch:
    """Some rows of one split, as a network sees them.

    split: name of the split the rows come from ("labelled", "unlabelled", "validation", "test", or one that
    a recipe lays down, such as "memory").
    index: (B,) int64, rows of that split.
    view:  (B,) int64, the counter that each row's inputs were made from; 0 is the clean row.
    views: named inputs, each of B rows; "main" is what the student sees.
    y:     the truth in the task's own form, or None: no truth here. Of classification (B,) int64 classes, or
           (B, K) float class probabilities where rows were mixed.
    warp:  where what the clean rows show lies in "main", of a task whose answers lie at places of a row; y
           has moved with it. None: where it was.
    """

    split: str
    index: Tensor
    view: Tensor
    views: Mapping[str, Inputs]
    y: Answers | None = None
    warp: Warp | None = None

    def __len__(self) -> int:
        return len(self.index)


Streams = Mapping[str, Batch]
Teacher = Callable[[Batch], Answers]
"""The answers to a batch, never with gradient."""


@dataclass(frozen=True)
class Split:
    """N rows by index, as they are stored: `inputs` one tensor or a few by name (each a tensor, or a
    kdx.data.reader.Reader, which reads the rows that are asked for), `truth` in the task's own form, or None.
    kinds: of rows with several inputs, of which each network reads its own, name -> what that input is
    (kdx.core.several).

    Levels are stored as uint8 and given to networks as floats in [0, 1]; all else is given as it is.
    """

    name: str
    inputs: Inputs
    truth: Answers | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return rows_of(self.inputs)

    @property
    def known(self) -> Answers:
        """The truth of a split that has it."""
        if self.truth is None:
            raise ValueError(f"nobody knows the truth of the split '{self.name}'")
        return self.truth

    def clean(self, size: int = 512) -> Iterator[Batch]:
        """The rows in order, clean (view 0), `size` at a time: for statistics."""
        for start in range(0, len(self), size):
            index = torch.arange(start, min(start + size, len(self)))
            shown = tree(as_float, part_of(self.inputs, start, size))
            y = None
            if self.truth is not None:
                y = moved(part_of(self.truth, start, size), device_of(shown))
            yield Batch(self.name, index, torch.zeros_like(index), {"main": shown, "clean": shown}, y)
