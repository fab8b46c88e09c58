"""Boxes with a class each. A detector answers at every place of a picture, densely: how likely each class is,
and where the sides of the box lie; see `Detection`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdx.core.answers import AnswerColumns, Answers, Figure, Given, Nothing
from kdx.core.checks import integer, number
from kdx.core.errors import UserError
from kdx.core.task import Boxed
from kdx.core.warp import Warp
from kdx.tasks import box_words
from kdx.tasks.answer_formats import half
from kdx.tasks.box_answers import (
    BOXES,
    CENTRE,
    CLASSES,
    ROW_LOSS,
    SCORES,
    Grid,
    dense,
    moved_boxes,
    several,
    sure_boxes,
)
from kdx.tasks.box_losses import answer_distance, label_loss
from kdx.tasks.box_scores import average_precision, check_installed, precision_by_class
from kdx.tasks.boxes import f1_of_boxes
from kdx.tasks.shown import BOX_F1, MAP, MAP_50, SAME_BOXES

HIT = 0.5
"""IoU from which on two boxes are the same one."""
MOST_DRAWN = 30
"""Classes in a figure at most, those with the least average precision."""
STRIDES = (2, 4, 8, 16, 32)
"""Of the first level: networks halve their maps."""


class Detection(Boxed):
    """names: of the classes. height, width: of the pictures. stride, levels: of the places at which answers
    lie, see `kdx.tasks.boxes.grid_places`: A of them. sure: how sure a detector must be of a box, in [0, 1],
    for F1, agreement, and pictures. ids: by which files in COCO's form call the classes; None: from 1 on.

    Answers are scores (B, A, K), logits of K classes of which each is yes or no by itself; boxes (B, A, 4),
    distances from the place to the left, upper, right and lower side, in strides; and of FCOS centre (B, A),
    the logit of how near the middle of the box lies. An answer with `centre` is one of FCOS, one without of
    RetinaNet, whose places are the middles of anchors: they learn by other rules which place is to find
    which box. Boxes that are named, in the place of dense answers, are boxes (B, D, 4) in pixels, scores
    (B, D) and classes (B, D), -1: none.

    The truth is boxes (B, M, 4), x1, y1, x2, y2 in pixels, and classes (B, M) int64, -1: no box.
    """

    shown = {metric.name: metric for metric in (MAP, MAP_50, BOX_F1, SAME_BOXES)}
    primary = MAP.name
    paired = BOX_F1
    placed = True
    several_forms = True

    def __init__(
        self,
        *,
        names: Sequence[str],
        height: int,
        width: int,
        stride: int,
        levels: int,
        sure: float,
        ids: Sequence[int] | None = None,
    ):
        check_installed()
        self.ids = tuple(range(1, len(names) + 1)) if ids is None else tuple(ids)
        self.names, self.size = tuple(names), (int(height), int(width))
        self.stride = integer("dataset.stride", stride, low=2)
        if self.stride not in STRIDES:
            raise UserError(f"dataset.stride must be one of {', '.join(map(str, STRIDES))}; given: {stride}")
        self.levels = integer("dataset.levels", levels, low=1, high=6)
        self.sure = number("dataset.sure", sure, low=0, high=1)
        self.width: Mapping[str, int] = {
            "classes": len(self.names),
            "stride": self.stride,
            "levels": self.levels,
        }
        self.grid = Grid(self.size, self.stride, self.levels)

    # training

    def loss(self, answers: Answers, truth: Answers, weights: Tensor | None = None) -> Tensor:
        """See `kdx.tasks.box_losses.label_loss`."""
        return label_loss(self.grid, dense(answers), several(truth))

    def match(self, student: Answers, teacher: Answers, temperature: float) -> Tensor:
        """See `kdx.tasks.box_losses.answer_distance`."""
        return answer_distance(self.grid, dense(student), dense(teacher), temperature, self.sure)

    def agreement(self, student: Answers, teacher: Answers) -> Tensor:
        """F1 of the boxes that the student is sure of, held against those that the teacher is sure of."""
        return f1_of_boxes(self._sure(student), self._sure(teacher), HIT)

    def mean(self, several: Sequence[Answers]) -> Answers:
        """The mean of all numbers, place by place."""
        forms = [dense(one) for one in several]
        if len({(*sorted(form), form[SCORES].shape[1]) for form in forms}) > 1:
            raise UserError(
                "teachers that are detectors must be of one kind: FCOS, or RetinaNet with as many anchors"
            )
        return super().mean(several)

    def move(self, answers: Answers, warp: Warp) -> Answers:
        """Boxes that are cut off at the border, and lost where their middle lies outside. Dense answers
        change places where pictures are mirrored and the places lie alike from the left and from the right;
        else they become the boxes that they name."""
        given = several(answers)
        if CLASSES not in given and warp.mirrors and self.grid.symmetric:
            return self.grid.mirrored(given, warp.mirrored)
        return moved_boxes(self.named(given), warp)

    # what is answered

    def named(self, answers: Answers) -> Mapping[str, Tensor]:
        """See `kdx.tasks.box_answers.Grid.named`."""
        return self.grid.named(answers)

    def as_truth(self, answers: Answers, least: float) -> Answers:
        named = self.named(answers)
        kept = named[SCORES] >= least
        most = max(int(kept.sum(1).max()), 1) if len(kept) else 1  # the surest come first
        classes = named[CLASSES].masked_fill(~kept, -1)
        return {BOXES: named[BOXES][:, :most], CLASSES: classes[:, :most]}

    def _sure(self, answers: Answers) -> list[tuple[Tensor, Tensor]]:
        return sure_boxes(self.named(answers), self.sure)

    # measuring

    def condense(self, answers: Answers, truth: Answers, teacher: Answers | None = None) -> Answers:
        """The boxes that are named, and each row's loss."""
        given = several(answers)
        if CLASSES in given:
            return answers
        return {**self.named(answers), ROW_LOSS: self.loss(answers, truth)}

    def metrics(self, answers: Answers, truth: Answers) -> dict[str, float]:
        found = average_precision(self.named(answers), several(truth))
        f1 = self.by_row(answers, truth)
        return {**found, BOX_F1.name: f1.mean().item() if len(f1) else float("nan")}

    def by_row(self, answers: Answers, truth: Answers) -> Tensor:
        """F1 of the boxes that are named with confidence, at an IoU of 0.5."""
        return f1_of_boxes(self._sure(answers), self._sure(truth), HIT)

    def knowing_nothing(self, truth: Answers) -> Nothing:
        """No box anywhere is right where there is none."""
        return Nothing("never a box", (several(truth)[CLASSES] < 0).all(1).double())

    def floor(self, truth: Answers) -> float:
        """Who names no box has an average precision of 0."""
        return 0.0

    def quick(self, answers: Answers, truth: Answers) -> dict[str, float]:
        given = several(answers)
        each = given[ROW_LOSS] if ROW_LOSS in given else self.loss(answers, truth)
        precise = average_precision(self.named(answers), several(truth))
        return {self.primary: precise[self.primary], "loss": each.mean().item()}

    def details(self, answers: Answers, truth: Answers, part: str) -> dict[str, Any]:
        """map_by_class: the average precision of each class that the truth has; of the test rows a figure of
        it too."""
        if part == "train":
            return {}
        each = precision_by_class(self.named(answers), several(truth), len(self.names))
        known = {name: value for name, value in zip(self.names, each, strict=True) if value is not None}
        found: dict[str, Any] = {"map_by_class": known}
        if part == "test" and known:
            least = sorted(known.items(), key=lambda one: one[1])[:MOST_DRAWN]
            data = {
                "names": [name for name, _ in least],
                "values": [100 * value for _, value in least],
                "below": f"{MAP.title} in % of test rows, the worst class first",
            }
            found["figures"] = [Figure("mAP by class", "map_by_class", "ranked", data).document()]
        return found

    # shown

    def displayed(self, answers: Answers) -> list[str]:
        """ "circle, 2 square","""
        return [box_words.counted_boxes(self.names, kinds.tolist()) for _, kinds in self._sure(answers)]

    def outlined(self, answers: Answers) -> list[list[dict[str, Any]]]:
        return box_words.outlined_boxes(self.names, self._sure(answers))

    def columns(self, answers: Answers, wanted: AnswerColumns) -> dict[str, Any]:
        """label: class, how sure, and x1 y1 x2 y2 of each box, divided by semicolons."""
        if wanted != AnswerColumns():
            super().columns(answers, wanted)  # refuses
        named = self.named(answers)
        return {"label": box_words.boxes_in_words(self.names, named, named[SCORES] >= self.sure)}

    def listed(self, answers: Answers) -> list[list[dict[str, Any]]]:
        return box_words.coco_results(self.ids, self.named(answers))

    def truth_columns(self, truth: Answers) -> dict[str, Any]:
        """truth: the same without how sure; None where nobody knows."""
        right = several(truth)
        known = self.known({name: leaf.numpy() for name, leaf in right.items()})
        words = box_words.boxes_in_words(self.names, right, right[CLASSES] >= 0)
        return {"truth": [line if there else None for line, there in zip(words, known, strict=True)]}

    # answers from elsewhere

    def of_array(self, array: np.ndarray) -> dict[str, np.ndarray]:
        raise UserError(_FROM_FILES)

    def given(self, columns: Mapping[str, Any], called: Callable[[int], str]) -> Given:
        raise UserError(_FROM_FILES)

    # stored answers

    def pack(self, answers: Answers) -> dict[str, Tensor]:
        """Half precision."""
        return {name: half(leaf) for name, leaf in dense(answers).items()}

    # the truth as data

    def known(self, truth: Any) -> np.ndarray:
        """A row whose boxes are nan is one of which nobody knows them."""
        return np.isfinite(np.asarray(truth[BOXES])).all((1, 2))

    def unknown(self, like: Any, rows: int) -> Any:
        return {
            name: np.full((rows, *leaf.shape[1:]), -1 if name == CLASSES else np.nan, leaf.dtype)
            for name, leaf in like.items()
        }

    def made_up(self, rows: int, generator: torch.Generator | None = None) -> Answers:
        """Of FCOS."""
        count = len(self.grid.places.stride)
        return {
            SCORES: torch.randn(rows, count, len(self.names), generator=generator),
            BOXES: torch.rand(rows, count, 4, generator=generator) * 2 + 0.1,
            CENTRE: torch.randn(rows, count, generator=generator),
        }

    def made_up_truth(self, rows: int, generator: torch.Generator | None = None) -> Answers:
        """Two boxes in each row."""
        height, width = self.size
        sides = torch.tensor([width, height, width, height])
        corner = torch.rand(rows, 2, 2, generator=generator) / 2
        far = corner + 0.2 + 0.3 * torch.rand(rows, 2, 2, generator=generator)
        classes = torch.randint(0, len(self.names), (rows, 2), generator=generator)
        return {BOXES: torch.cat([corner, far], 2) * sides, CLASSES: classes}


_FROM_FILES = (
    "boxes are not read from a file of answers: give a teacher that is a network, or a data set that has "
    "these boxes in it"
)
