"""Average precision of boxes, as COCO measures it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from kdx.core.errors import UserError
from kdx.tasks.box_answers import BOXES, CLASSES, SCORES
from kdx.tasks.shown import MAP, MAP_50

_METERS = ("torchmetrics", "pycocotools")


def check_installed() -> None:
    """Raises UserError where what measures is not."""
    if missing := [name for name in _METERS if find_spec(name) is None]:
        raise UserError(
            f"average precision is measured by {' and '.join(_METERS)}, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed: pip install 'kdx[detection]'"
        )


def average_precision(named: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean average precision as COCO measures it, the mean over IoU .50 to .95 and that at .50: over the
    classes that the truth has; nan where it has no box."""
    found = _measured(named, truth, each=False)
    return {MAP.name: found["map"].item(), MAP_50.name: found["map_50"].item()}


def precision_by_class(
    named: Mapping[str, Tensor], truth: Mapping[str, Tensor], classes: int
) -> Sequence[float | None]:
    """That over IoU .50 to .95 of each class; None of one that the truth does not have."""
    found = _measured(named, truth, each=True)
    each = found.get("map_per_class", torch.zeros(0)).flatten().tolist()
    kinds = found.get("classes", torch.zeros(0, dtype=torch.int64)).flatten().tolist()
    known = {kind: value for kind, value in zip(kinds, each, strict=True) if value >= 0}
    return [known.get(kind) for kind in range(classes)]


def _measured(
    named: Mapping[str, Tensor], truth: Mapping[str, Tensor], *, each: bool
) -> Mapping[str, Tensor]:
    from torchmetrics.detection import MeanAveragePrecision

    # one of several processes that train together measures all rows, and no other has any to add
    meter = MeanAveragePrecision(backend="pycocotools", class_metrics=each, sync_on_compute=False)
    said = [
        {"boxes": box[kind >= 0], "scores": sure[kind >= 0], "labels": kind[kind >= 0]}
        for box, sure, kind in zip(named[BOXES], named[SCORES], named[CLASSES], strict=True)
    ]
    right = [
        {"boxes": box[kind >= 0].float(), "labels": kind[kind >= 0]}
        for box, kind in zip(truth[BOXES], truth[CLASSES], strict=True)
    ]
    if not any(len(row["labels"]) for row in right):
        return dict.fromkeys((MAP.name, MAP_50.name), torch.tensor(torch.nan))
    meter.update(said, right)
    found: Mapping[str, Tensor] = meter.compute()
    return found
