"""Metrics of a network on a split: pure functions of logits, and the pass that makes the logits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdx.core import Split
from kdx.data.augment import Views
from kdx.data.streams import sequential
from kdx.runtime import Runtime


def calibration_error(probs: Tensor, y: Tensor, bins: int = 15) -> float:
    """(N, C), (N,) -> expected calibration error in [0, 1]: mean over equal-width confidence bins of |accuracy - confidence|, by size.

    Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599, equation 3, with M = 15 bins (a, b].
    """
    confidence, guess = probs.double().max(dim=1)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    which = torch.bucketize(confidence, edges[1:-1])
    right = (guess == y).double()
    gap = torch.zeros(bins, dtype=torch.float64).index_add_(0, which, right - confidence)
    return (gap.abs().sum() / len(y)).item()


def confusion(guess: Tensor, y: Tensor, classes: int) -> Tensor:
    """(N,), (N,) -> (C, C) counts: rows truth, columns predicted"""
    return torch.bincount(y * classes + guess, minlength=classes**2).reshape(classes, classes)


def metrics(logits: Tensor, y: Tensor, teacher: Tensor | None = None) -> dict[str, float]:
    """(N, C) logits, (N,) truth, (N, C) teacher's logits -> accuracy, ece, nll (nats), n, and agreement: share with the teacher's argmax"""
    found = {
        "accuracy": (logits.argmax(1) == y).double().mean().item(),
        "ece": calibration_error(logits.double().softmax(1), y),
        "nll": F.cross_entropy(logits.double(), y).item(),
        "n": len(y),
    }
    if teacher is not None:
        found["agreement"] = (logits.argmax(1) == teacher.argmax(1)).double().mean().item()
    return found


@torch.inference_mode()
def predict(model: nn.Module, split: Split, runtime: Runtime, *, precision: str = "fp32", batch: int = 256, views: Views | None = None) -> Tensor:
    """Logits (N, C) float32 on the CPU of the pictures of a split, in order: the clean ones, or view 1 of `views`.

    The model's train or eval mode is put back.
    """
    mode = model.training
    model.eval()
    logits = []
    for rows in sequential(split, batch=batch, views=views, view=0 if views is None else 1, device=torch.device(runtime.device)):
        with runtime.autocast(precision):
            logits.append(model(rows.views["main"]).float().cpu())
    model.train(mode)
    return torch.cat(logits)


def quick(logits: Tensor, y: Tensor) -> Mapping[str, float]:
    """What is watched while training."""
    return {"validation/accuracy": (logits.argmax(1) == y).float().mean().item(), "validation/loss": F.cross_entropy(logits, y).item()}
