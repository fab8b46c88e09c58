"""A network's answers to a split."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdx.core.trees import joined, tree
from kdx.core.types import Answers, Split
from kdx.data.streams import sequential
from kdx.data.views.chain import Views
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
) -> Answers:
    """The answers to the rows of a split, in order, on the CPU, float32: to the clean ones, or to view 1 of
    `views`. Of classification (N, C) logits.

    The model's train or eval mode is put back.
    """
    mode = model.training
    model.eval()
    answers = []
    for rows in sequential(
        split, batch=batch, views=views, view=0 if views is None else 1, device=torch.device(runtime.device)
    ):
        with runtime.autocast(precision):
            answers.append(tree(_laid_down, model(rows.views["main"])))
    model.train(mode)
    return joined(answers)


def _laid_down(answers: Tensor) -> Tensor:
    return (answers.float() if answers.is_floating_point() else answers).cpu()
