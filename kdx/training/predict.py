"""A network's answers to a split: the pass that makes the logits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdx.core.types import Split
from kdx.data.streams import sequential
from kdx.data.views.augment import Views
from kdx.training.runtime import Runtime


@torch.inference_mode()
def predict(
    model: nn.Module,
    split: Split,
    runtime: Runtime,
    *,
    precision: str = "fp32",
    batch: int = 256,
    views: Views | None = None,
) -> Tensor:
    """Logits (N, C) float32 on the CPU of the pictures of a split, in order: the clean ones, or view 1 of
    `views`.

    The model's train or eval mode is put back.
    """
    mode = model.training
    model.eval()
    logits = []
    for rows in sequential(
        split, batch=batch, views=views, view=0 if views is None else 1, device=torch.device(runtime.device)
    ):
        with runtime.autocast(precision):
            logits.append(model(rows.views["main"]).float().cpu())
    model.train(mode)
    return torch.cat(logits)


def quick(logits: Tensor, y: Tensor) -> Mapping[str, float]:
    """What is watched while training."""
    return {
        "validation/accuracy": (logits.argmax(1) == y).float().mean().item(),
        "validation/loss": F.cross_entropy(logits, y).item(),
    }
