"""A network's answers to a split."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdx.core.trees import leaves, tree
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
    # into one place: small answers kept between the big blocks of each batch would leave holes in memory
    answers: Answers | None = None
    done = 0
    for rows in sequential(
        split, batch=batch, views=views, view=0 if views is None else 1, device=torch.device(runtime.device)
    ):
        with runtime.autocast(precision):
            found = tree(_laid_down, model(rows.views["main"]))
        if answers is None:
            answers = tree(lambda leaf: leaf.new_empty((len(split), *leaf.shape[1:])), found)
        for name, leaf in leaves(answers).items():
            leaf[done : done + len(rows.index)] = leaves(found)[name]
        done += len(rows.index)
    model.train(mode)
    assert answers is not None, "a split has rows"
    return answers


def _laid_down(answers: Tensor) -> Tensor:
    return (answers.float() if answers.is_floating_point() else answers).cpu()
