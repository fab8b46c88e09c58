"""Detectors of torchvision, by name: those that answer once at each place of a picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import detection, list_models

from kdx.core.checks import shown
from kdx.core.errors import UserError, nearest
from kdx.core.several import BOXED
from kdx.models import reads
from kdx.models.adapt import Fitted, InputFormat
from kdx.models.layers import check_size

_DENSE = "fcos_resnet50_fpn"
_STRIDE, _LEVELS = 8, 5
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the pictures that torchvision's detectors read, trained or not."""
_REFUSED = {
    ("fasterrcnn", "maskrcnn", "keypointrcnn"): (
        "is a two-stage detector: its second stage answers to boxes of its own, others for teacher and "
        "student, and there is no place at which the two can be compared"
    ),
    ("retinanet",): "has nine anchors at each place, and a detector answers here once at each",
    ("ssd",): "has four to six boxes of other shapes at each place, and a detector answers here once at each",
}


class StockFCOS(nn.Module):
    """backbone, head: those of torchvision's network, by the names that they have there, so that its weights
    fit."""

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone, self.head = backbone, head
        # its places lie in the corners of their squares, those of kdx.tasks.boxes in the middle
        self.register_buffer("shift", torch.tensor([0.5, 0.5, -0.5, -0.5]), persistent=False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        said = self.head(list(self.backbone(x).values()))
        return {
            "scores": said["cls_logits"],
            "boxes": said["bbox_regression"] + self.shift,
            "centre": said["bbox_ctrness"][..., 0],
        }


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
    if name != _DENSE:
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
    whole = detection.fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=outputs["classes"])
    size = (shape[1], shape[2])
    return Fitted(StockFCOS(whole.backbone, whole.head), InputFormat(3, size, _MEAN, _STD))


def _why_not(name: str) -> str:
    known = list_models(module=detection)
    if name not in known:
        return f"torchvision has no detector '{shown(name, bare=True)}'{nearest(str(name), known)}"
    why = next(why for heads, why in _REFUSED.items() if name.startswith(heads))
    return f"torchvision's {name} {why}: choose name={_DENSE}, or one of kdx's own, such as fcos_small"
