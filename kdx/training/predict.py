"""A network's answers to a split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdx.core.episodes import Acts
from kdx.core.scorer import Scorer
from kdx.core.task import Task
from kdx.core.trees import leaves, tree
from kdx.core.types import Answers, Batch, Split
from kdx.data.streams import sequential
from kdx.data.views.chain import Views
from kdx.training.runtime import Runtime

TOGETHER = 256
"""Rows that are answered together at most."""
Kept = Callable[[Answers, Batch], Answers]
"""What is kept of the answers to a batch, on the device."""


@dataclass(frozen=True)
class Condensing:
    """Keeps what `Task.condense` says, of rows whose truth is known. beside: the teacher's network, in eval
    mode, where the task compares answers with its own; None: it does not, or there is none."""

    task: Task
    beside: nn.Module | None = None

    def __call__(self, answers: Answers, rows: Batch) -> Answers:
        if rows.y is None:
            return answers
        teacher = self.beside(rows.views["main"]) if self.beside is not None and self.task.beside else None
        return self.task.condense(answers, rows.y, teacher)

    @property
    def batch(self) -> int:
        """Rows whose answers are not too large together."""
        return self.task.rows_together(TOGETHER)


@torch.inference_mode()
def predict(
    model: nn.Module,
    split: Split,
    runtime: Runtime,
    *,
    precision: str = "fp32",
    batch: int = TOGETHER,
    views: Views | None = None,
    kept: Kept | None = None,
) -> Answers:
    """The answers to the rows of a split, in order, on the CPU, float32: to the clean ones, or to view 1 of
    `views`. Of classification (N, C) logits. kept: what is kept of those to each batch, None: all.

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
            said = _said(model, rows)
            found = tree(_laid_down, said if kept is None else kept(said, rows))
        if answers is None:
            answers = tree(lambda leaf: leaf.new_empty((len(split), *leaf.shape[1:])), found)
        for name, leaf in leaves(answers).items():
            leaf[done : done + len(rows.index)] = leaves(found)[name]
        done += len(rows.index)
    model.train(mode)
    assert answers is not None, "a split has rows"
    return answers


def _said(model: nn.Module, rows: Batch) -> Answers:
    if isinstance(model, Scorer) and rows.y is not None:
        return model.score(rows.views["main"], rows.y)
    if isinstance(model, Acts) and rows.y is not None:
        return model.acted(rows.views["main"])
    answers: Answers = model(rows.views["main"])
    return answers


def _laid_down(answers: Tensor) -> Tensor:
    return (answers.float() if answers.is_floating_point() else answers).cpu()
