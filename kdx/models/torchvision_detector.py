"""Detectors of torchvision, by name: those that answer at places of a picture, once or to nine anchors at
each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models import detection, list_models

from kdx.core.checks import shown
from kdx.core.errors import UserError, nearest
from kdx.core.several import BOXED
from kdx.models import reads
from kdx.models.adapt import Fitted, InputFormat
from kdx.models.detector import sides_of_deltas
from kdx.models.layers import check_size

_FCOS, _RETINA = "fcos_resnet50_fpn", ("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2")
_STRIDE, _LEVELS = 8, 5
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the pictures that torchvision's detectors read, trained or not."""
_REFUSED = {
    ("fasterrcnn", "maskrcnn", "keypointrcnn"): (
        "is a two-stage detector: its second stage answers to boxes of its own, others for teacher and "
        "student, and there is no place at which the two can be compared"
    ),
    ("ssd",): (
        "names one class of each box by a softmax with the background among them, at places that no "
        "dataset.stride has (of SSD 8 to 300 pixels apart), and a detector answers here yes or no for each "
        "class"
    ),
}


class StockFCOS(nn.Module):
    """backbone, head: those of torchvision's network, by the names that they have there, so that its weights
    fit."""

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone, self.head = backbone, head
        self.register_buffer("shift", torch.tensor(_TO_MIDDLE), persistent=False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        said = self.head(list(self.backbone(x).values()))
        return {
            "scores": said["cls_logits"],
            "boxes": said["bbox_regression"] + self.shift,
            "centre": said["bbox_ctrness"][..., 0],
        }


_TO_MIDDLE = (0.5, 0.5, -0.5, -0.5)
"""Strides: its places lie in the corners of their squares, those of kdx.tasks.boxes in the middle."""


class StockRetina(nn.Module):
    """The same of RetinaNet. anchors: of each level those around a corner, (9, 4) in pixels, as torchvision
    rounds them."""

    def __init__(self, backbone: nn.Module, head: nn.Module, anchors: Sequence[Tensor]):
        super().__init__()
        self.backbone, self.head = backbone, head
        self.register_buffer("shift", torch.tensor(_TO_MIDDLE), persistent=False)
        strides = [_STRIDE * 2**level for level in range(len(anchors))]
        sides = [(one[:, 2:] - one[:, :2]) / stride for one, stride in zip(anchors, strides, strict=True)]
        self.register_buffer("sides", torch.stack(sides), persistent=False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = list(self.backbone(x).values())
        said = self.head(maps)
        counts = [one.shape[2] * one.shape[3] * self.sides.shape[1] for one in maps]
        parts = said["bbox_regression"].split(counts, 1)
        boxes = [sides_of_deltas(part, self.sides[level]) for level, part in enumerate(parts)]
        return {"scores": said["cls_logits"], "boxes": torch.cat(boxes, 1) + self.shift}


@reads(BOXED)
def torchvision_detector(
    *,
    shape: tuple[int, int, int],
    outputs: dict[str, int],
    name: str,
    dropout: float,
    stochastic_depth: float | str,
) -> Fitted:
    """The detector that torchvision calls `name`, from scratch; its published weights are a `checkpoint`.
    outputs: classes, stride of the first level of places, levels; it has 8 and 5. Grey pictures are repeated;
    they are normalised as torchvision does, and not resized.
    """
    if name not in (_FCOS, *_RETINA):
        raise UserError(_why_not(name))
    if (outputs["stride"], outputs["levels"]) != (_STRIDE, _LEVELS):
        raise UserError(
            f"torchvision's {name} answers on {_LEVELS} levels, {_STRIDE} pixels apart on the first: set "
            f"dataset.stride={_STRIDE} dataset.levels={_LEVELS}, for the other network too"
        )
    if dropout or stochastic_depth not in (0, "auto"):
        raise UserError(
            f"torchvision's {name} does not take these rates: set dropout=0 and stochastic_depth=0"
        )
    check_size(name, shape, 32)
    build = getattr(detection, name)
    whole = build(weights=None, weights_backbone=None, num_classes=outputs["classes"])
    net = StockFCOS(whole.backbone, whole.head)
    if name in _RETINA:
        net = StockRetina(whole.backbone, whole.head, whole.anchor_generator.cell_anchors)
    return Fitted(net, InputFormat(3, (shape[1], shape[2]), _MEAN, _STD))


def _why_not(name: str) -> str:
    known = list_models(module=detection)
    if name not in known:
        return f"torchvision has no detector '{shown(name, bare=True)}'{nearest(str(name), known)}"
    why = next(why for heads, why in _REFUSED.items() if name.startswith(heads))
    return (
        f"torchvision's {name} {why}: choose name={_FCOS} or {_RETINA[0]}, or one of kdx's own, such as "
        "fcos_small"
    )
