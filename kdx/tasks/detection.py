"""Boxes with a class each. A detector answers at every place of a picture, densely: how likely each class is,
and where the sides of the box lie; see `Detection`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from kdx.core.answers import AnswerColumns, Answers, Given, Nothing
from kdx.core.checks import integer, number
from kdx.core.errors import UserError
from kdx.core.math import bernoulli_kl, full
from kdx.core.task import Boxed
from kdx.core.trees import leaves
from kdx.tasks import boxes as geometry
from kdx.tasks.answer_formats import half
from kdx.tasks.shown import BOX_F1, MAP, MAP_50, SAME_BOXES

SCORES, BOXES, CENTRE, CLASSES, ROW_LOSS = "scores", "boxes", "centre", "classes", "loss"
MOST_SAID = 100
"""Boxes of a picture that are measured at most, as COCO has it."""
HIT = 0.5
"""IoU from which on two boxes are the same one."""
_METERS = ("torchmetrics", "pycocotools")
STRIDES = (2, 4, 8, 16, 32)
"""Of the first level: networks halve their maps."""
FOCUS, _SHARE = 2.0, 0.25
"""gamma and alpha of the focal loss (Lin et al. 2017, arXiv 1708.02002, equation 5)."""


class Detection(Boxed):
    """names: of the classes. height, width: of the pictures. stride, levels: of the places at which answers
    lie, see `kdx.tasks.boxes.grid_places`: A of them. sure: how sure a detector must be of a box, in [0, 1],
    for F1, agreement, and pictures.

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

    def __init__(
        self,
        *,
        names: Sequence[str],
        height: int,
        width: int,
        stride: int,
        levels: int,
        sure: float,
    ):
        if missing := [name for name in _METERS if find_spec(name) is None]:
            raise UserError(
                f"average precision is measured by {' and '.join(_METERS)}, and {' and '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} not installed: pip install 'kdx[detection]'"
            )
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
        self.places = geometry.grid_places(self.size, self.stride, self.levels)

    # training

    def loss(self, answers: Answers, truth: Answers, weights: Tensor | None = None) -> Tensor:
        """Over the places that are to find a box, their number n at least 1: the sum over all places of the
        focal loss, / n; the mean of 1 - GIoU; of FCOS that weighted by how near the middle they lie, and the
        mean cross-entropy of saying so.

        n is that of a row, not that of a batch, so that a row's loss is its own; and both kinds learn GIoU,
        where RetinaNet's paper has the smooth L1 of its deltas.
        """
        said, right = _dense(answers), _several(truth)
        of_points = CENTRE in said
        places = self.places.to(said[SCORES].device)
        assign = geometry.assigned_to_points if of_points else geometry.assigned_to_anchors
        box, kinds = right[BOXES].float(), right[CLASSES].long()
        found = assign(places, box, kinds)
        there, count = found >= 0, (found >= 0).sum(1).clamp_min(1)
        kind = kinds.gather(1, found.clamp_min(0)) if kinds.shape[1] else torch.full_like(found, -1)
        wanted = F.one_hot(kind.clamp_min(0), len(self.names)) * there[..., None]
        focal = sigmoid_focal_loss(
            full(said[SCORES]), wanted.to(full(said[SCORES]).dtype), _SHARE, FOCUS
        ).sum(2)
        loss = (focal * (found != -2)).sum(1) / count
        row, place = there.nonzero(as_tuple=True)
        true = box[row, found[row, place]]
        overlap = generalized_box_iou_loss(self._decoded(said[BOXES])[row, place], true)
        if not of_points:
            return loss + _by_row(overlap, row, loss) / count
        point, stride = places.centre[place], places.stride[place]
        apart = torch.cat([point - true[:, :2], true[:, 2:] - point], 1) / stride[:, None]
        middle = geometry.centreness(apart).to(overlap.dtype)
        near = F.binary_cross_entropy_with_logits(full(said[CENTRE])[row, place], middle, reduction="none")
        weight = _by_row(middle, row, loss).clamp_min(1e-6)
        return loss + _by_row(overlap * middle, row, loss) / weight + _by_row(near, row, loss) / count

    def match(self, student: Answers, teacher: Answers, temperature: float) -> Tensor:
        """T^2 times the divergence of the scores, of each class and place by itself, over all of them; where
        the teacher is sure (`sure`), weighted by that, 1 - GIoU of the two boxes, and of FCOS the divergence
        of the nearness to the middle. All over the teacher's confidence of the row, at least 1; 0 where both
        say the same. Places of which the teacher is sure that nothing is there count by their scores as all
        others do: a student that sees something there is corrected.
        """
        said, taught = _dense(student), _dense(teacher)
        if said[SCORES].shape != taught[SCORES].shape:
            raise UserError(
                f"the teacher answers at {taught[SCORES].shape[1]} places and the student at "
                f"{said[SCORES].shape[1]}: choose detectors of one kind"
            )
        sure = self._probs(taught).amax(2)
        sure = torch.where(sure >= self.sure, sure, 0.0)
        apart = bernoulli_kl(said[SCORES], taught[SCORES], temperature).sum((1, 2))
        boxes = generalized_box_iou_loss(self._decoded(said[BOXES]), self._decoded(taught[BOXES]))
        apart = apart + (sure * boxes).sum(1)
        if CENTRE in said and CENTRE in taught:
            apart = apart + (sure * bernoulli_kl(said[CENTRE], taught[CENTRE], temperature)).sum(1)
        return apart / sure.sum(1).clamp_min(1)

    def agreement(self, student: Answers, teacher: Answers) -> Tensor:
        """F1 of the boxes that the student is sure of, held against those that the teacher is sure of."""
        return geometry.f1_of_boxes(self._sure(student), self._sure(teacher), HIT)

    def mean(self, several: Sequence[Answers]) -> Answers:
        """The mean of all numbers, place by place."""
        if len({frozenset(_dense(one)) for one in several}) > 1:
            raise UserError("teachers that are detectors must be of one kind: FCOS or RetinaNet")
        return super().mean(several)

    # what is answered

    def named(self, answers: Answers) -> Mapping[str, Tensor]:
        """The boxes that answers name, at most MOST_SAID a row, the surest first."""
        given = _several(answers)
        if CLASSES in given:
            return given
        boxes = self._decoded(given[BOXES]).detach()
        height, width = self.size
        limit = torch.tensor([width, height, width, height], device=boxes.device)
        boxes = torch.minimum(boxes.clamp_min(0), limit)
        rows = [
            geometry.surest_boxes(*row, MOST_SAID)
            for row in zip(boxes, self._probs(given).detach(), strict=True)
        ]
        found = [torch.stack(parts) for parts in zip(*rows, strict=True)]
        return dict(zip((BOXES, SCORES, CLASSES), found, strict=True))

    def as_truth(self, answers: Answers, least: float) -> Answers:
        named = self.named(answers)
        kept = named[SCORES] >= least
        most = max(int(kept.sum(1).max()), 1) if len(kept) else 1  # the surest come first
        classes = named[CLASSES].masked_fill(~kept, -1)
        return {BOXES: named[BOXES][:, :most], CLASSES: classes[:, :most]}

    def _decoded(self, numbers: Tensor) -> Tensor:
        return geometry.boxes_of_distances(self.places.to(numbers.device), numbers)

    def _probs(self, answers: Mapping[str, Tensor]) -> Tensor:
        """(B, A, K); of FCOS the geometric mean of score and nearness to the middle, as its second paper
        has it (arXiv 2006.09214)."""
        probs = full(answers[SCORES]).sigmoid()
        return (probs * full(answers[CENTRE]).sigmoid()[..., None]).sqrt() if CENTRE in answers else probs

    def _sure(self, answers: Answers) -> list[tuple[Tensor, Tensor]]:
        """Of each row the boxes and classes that are named with confidence; of the truth all."""
        named = self.named(answers)
        kept = named[CLASSES] >= 0
        if SCORES in named:
            kept &= named[SCORES] >= self.sure
        return [
            (box[there], kind[there])
            for box, kind, there in zip(named[BOXES], named[CLASSES], kept, strict=True)
        ]

    # measuring

    def condense(self, answers: Answers, truth: Answers, teacher: Answers | None = None) -> Answers:
        """The boxes that are named, and each row's loss."""
        given = _several(answers)
        if CLASSES in given:
            return answers
        return {**self.named(answers), ROW_LOSS: self.loss(answers, truth)}

    def metrics(self, answers: Answers, truth: Answers) -> dict[str, float]:
        found = average_precision(self.named(answers), _several(truth))
        f1 = self.by_row(answers, truth)
        return {**found, BOX_F1.name: f1.mean().item() if len(f1) else float("nan")}

    def by_row(self, answers: Answers, truth: Answers) -> Tensor:
        """F1 of the boxes that are named with confidence, at an IoU of 0.5."""
        return geometry.f1_of_boxes(self._sure(answers), self._sure(truth), HIT)

    def knowing_nothing(self, truth: Answers) -> Nothing:
        """No box anywhere is right where there is none."""
        return Nothing("never a box", (_several(truth)[CLASSES] < 0).all(1).double())

    def floor(self, truth: Answers) -> float:
        """Who names no box has an average precision of 0."""
        return 0.0

    def quick(self, answers: Answers, truth: Answers) -> dict[str, float]:
        given = _several(answers)
        each = given[ROW_LOSS] if ROW_LOSS in given else self.loss(answers, truth)
        precise = average_precision(self.named(answers), _several(truth))
        return {self.primary: precise[self.primary], "loss": each.mean().item()}

    # shown

    def displayed(self, answers: Answers) -> list[str]:
        """ "circle, 2 square","""
        return [self._counted(kinds.tolist()) for _, kinds in self._sure(answers)]

    def _counted(self, kinds: Sequence[int]) -> str:
        often = [(kinds.count(kind), name) for kind, name in enumerate(self.names)]
        words = [f"{count} {name}" if count > 1 else name for count, name in often if count]
        return ", ".join(words) or "no box"

    def outlined(self, answers: Answers) -> list[list[dict[str, Any]]]:
        return [
            [
                {"box": [round(side, 2) for side in box], "words": self.names[kind]}
                for box, kind in zip(boxes.tolist(), kinds.tolist(), strict=True)
            ]
            for boxes, kinds in self._sure(answers)
        ]

    def columns(self, answers: Answers, wanted: AnswerColumns) -> dict[str, Any]:
        """label: class, how sure, and x1 y1 x2 y2 of each box, divided by semicolons."""
        if wanted != AnswerColumns():
            super().columns(answers, wanted)  # refuses
        named = self.named(answers)
        kept = named[SCORES] >= self.sure
        return {
            "label": [
                self._written({name: leaf[row] for name, leaf in named.items()}, kept[row])
                for row in range(len(kept))
            ]
        }

    def truth_columns(self, truth: Answers) -> dict[str, Any]:
        """truth: the same without how sure; None where nobody knows."""
        right = _several(truth)
        known = self.known({name: leaf.numpy() for name, leaf in right.items()})
        kept = right[CLASSES] >= 0
        return {
            "truth": [
                self._written({name: leaf[row] for name, leaf in right.items()}, kept[row])
                if known[row]
                else None
                for row in range(len(kept))
            ]
        }

    def _written(self, row: Mapping[str, Tensor], kept: Tensor) -> str:
        found = []
        for place in kept.nonzero().flatten().tolist():
            sure = f" {row[SCORES][place]:.3f}" if SCORES in row else ""
            sides = " ".join(f"{side:.1f}" for side in row[BOXES][place].tolist())
            found.append(f"{self.names[int(row[CLASSES][place])]}{sure} {sides}")
        return "; ".join(found) or "no box"

    # answers from elsewhere

    def of_array(self, array: np.ndarray) -> dict[str, np.ndarray]:
        raise UserError(_FROM_FILES)

    def given(self, columns: Mapping[str, Any], called: Callable[[int], str]) -> Given:
        raise UserError(_FROM_FILES)

    # stored answers

    def pack(self, answers: Answers) -> dict[str, Tensor]:
        """Half precision."""
        return {name: half(leaf) for name, leaf in _dense(answers).items()}

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
        count = len(self.places.stride)
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


def average_precision(named: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean average precision as COCO measures it, the mean over IoU .50 to .95 and that at .50: over the
    classes that the truth has; nan where it has no box."""
    from torchmetrics.detection import MeanAveragePrecision

    meter = MeanAveragePrecision(backend="pycocotools")
    said = [
        {"boxes": box[kind >= 0], "scores": sure[kind >= 0], "labels": kind[kind >= 0]}
        for box, sure, kind in zip(named[BOXES], named[SCORES], named[CLASSES], strict=True)
    ]
    right = [
        {"boxes": box[kind >= 0].float(), "labels": kind[kind >= 0]}
        for box, kind in zip(truth[BOXES], truth[CLASSES], strict=True)
    ]
    if not any(len(row["labels"]) for row in right):
        return {MAP.name: float("nan"), MAP_50.name: float("nan")}
    meter.update(said, right)
    found = meter.compute()
    return {MAP.name: found["map"].item(), MAP_50.name: found["map_50"].item()}


def _by_row(values: Tensor, row: Tensor, like: Tensor) -> Tensor:
    """(n,) values of n places, (n,) their rows -> (B,) the sums."""
    return torch.zeros_like(like).index_add(0, row, values.to(like.dtype))


def _several(value: Answers) -> Mapping[str, Tensor]:
    if isinstance(value, Mapping):
        return value
    raise UserError(
        "boxes are several arrays by name (see docs/detection.md); given one: choose a detector, such as "
        "fcos_tiny"
    )


def _dense(answers: Answers) -> Mapping[str, Tensor]:
    given = _several(answers)
    if SCORES in given and BOXES in given and CLASSES not in given:
        return given
    raise UserError(
        f"a detector answers with {SCORES} and {BOXES} at every place of a picture; given: "
        f"{', '.join(leaves(given))}"
    )
