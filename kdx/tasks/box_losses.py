"""How far dense answers about boxes are from the truth, and from a teacher's."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from kdx.core.errors import UserError
from kdx.core.math import bernoulli_kl, full
from kdx.tasks import boxes as geometry
from kdx.tasks.box_answers import BOXES, CENTRE, CLASSES, SCORES, Grid, probabilities

FOCUS, _SHARE = 2.0, 0.25
"""gamma and alpha of the focal loss (Lin et al. 2017, arXiv 1708.02002, equation 5)."""


def label_loss(grid: Grid, said: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> Tensor:
    """(B,) over the places that are to find a box, their number n at least 1: the sum over all places of the
    focal loss, / n; the mean of 1 - GIoU; of FCOS that weighted by how near the middle they lie, and the mean
    cross-entropy of saying so.

    n is that of a row, not that of a batch, so that a row's loss is its own; and both kinds learn GIoU, where
    RetinaNet's paper has the smooth L1 of its deltas.
    """
    of_points, places = CENTRE in said, grid.places_of(said)
    assign = geometry.assigned_to_points if of_points else geometry.assigned_to_anchors
    box, kinds = right[BOXES].float(), right[CLASSES].long()
    found = assign(places, box, kinds)
    there, count = found >= 0, (found >= 0).sum(1).clamp_min(1)
    kind = kinds.gather(1, found.clamp_min(0)) if kinds.shape[1] else torch.full_like(found, -1)
    scores = full(said[SCORES])
    wanted = F.one_hot(kind.clamp_min(0), scores.shape[2]) * there[..., None]
    focal = sigmoid_focal_loss(scores, wanted.to(scores.dtype), _SHARE, FOCUS).sum(2)
    loss = (focal * (found != -2)).sum(1) / count
    row, place = there.nonzero(as_tuple=True)
    true = box[row, found[row, place]]
    overlap = generalized_box_iou_loss(grid.decoded(said)[row, place], true)
    if not of_points:
        return loss + _by_row(overlap, row, loss) / count
    point, stride = places.centre[place], places.stride[place]
    apart = torch.cat([point - true[:, :2], true[:, 2:] - point], 1) / stride[:, None]
    middle = geometry.centreness(apart).to(overlap.dtype)
    near = F.binary_cross_entropy_with_logits(full(said[CENTRE])[row, place], middle, reduction="none")
    weight = _by_row(middle, row, loss).clamp_min(1e-6)
    return loss + _by_row(overlap * middle, row, loss) / weight + _by_row(near, row, loss) / count


def answer_distance(
    grid: Grid, said: Mapping[str, Tensor], taught: Mapping[str, Tensor], temperature: float, least: float
) -> Tensor:
    """(B,) T^2 times the divergence of the scores, of each class and place by itself, over all of them; where
    the teacher is sure (`least`), weighted by that, 1 - GIoU of the two boxes, and of FCOS the divergence of
    the nearness to the middle. All over the teacher's confidence of the row, at least 1; 0 where both say the
    same. Places of which the teacher is sure that nothing is there count by their scores as all others do: a
    student that sees something there is corrected.
    """
    if said[SCORES].shape != taught[SCORES].shape:
        raise UserError(
            f"the teacher answers at {taught[SCORES].shape[1]} places and the student at "
            f"{said[SCORES].shape[1]}: choose detectors of one kind, or loss=pseudo_boxes, which compares "
            "boxes and not places"
        )
    sure = probabilities(taught).amax(2)
    sure = torch.where(sure >= least, sure, 0.0)
    apart = bernoulli_kl(said[SCORES], taught[SCORES], temperature).sum((1, 2))
    boxes = generalized_box_iou_loss(grid.decoded(said), grid.decoded(taught))
    apart = apart + (sure * boxes).sum(1)
    if CENTRE in said and CENTRE in taught:
        apart = apart + (sure * bernoulli_kl(said[CENTRE], taught[CENTRE], temperature)).sum(1)
    return apart / sure.sum(1).clamp_min(1)


def _by_row(values: Tensor, row: Tensor, like: Tensor) -> Tensor:
    """(n,) values of n places, (n,) their rows -> (B,) the sums."""
    return torch.zeros_like(like).index_add(0, row, values.to(like.dtype))
