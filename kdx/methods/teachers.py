"""Teachers: functions of a batch that answer from stored arrays, from a live network,
or as several together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdx.core.types import Batch, Frozen, Teacher


@dataclass(frozen=True)
class Stored:
    """Answers by row and view from a label artifact's files.

    answers: split -> (N, V, C) float16, on the device or memory-mapped; slot v holds view `first[split]` + v.
    places: pool row -> its place in answers["unlabelled"], -1 where it was not bought; None: all rows are
    there, in order.
    """

    answers: Mapping[str, Tensor]
    first: Mapping[str, int]
    clean: bool
    device: str
    places: Tensor | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """Logits (B, C) float32 of exactly the pixels of `batch` (or, with clean answers, of the clean
        picture).
        """
        answers, index, view = self.answers[batch.split], batch.index.cpu(), batch.view.cpu()
        views, first = answers.shape[1], self.first[batch.split]
        if self.places is not None and batch.split == "unlabelled":
            index = self.places[index]
            if (index < 0).any():
                raise IndexError("the teacher was not asked about a row of this batch")
        if self.clean:
            places = index * views
        else:
            low, high = map(int, view.aminmax()) if len(view) else (first, first)
            if low < first or high >= first + views:
                raise IndexError(
                    f"no stored answer for view {low if low < first else high} of '{batch.split}': {views} "
                    "views are stored"
                )
            places = torch.add(view - first, index, alpha=views)
        # index_select copies whole rows, five times as fast as numpy's indexing; they travel as float16, half
        # the bytes.
        return answers.flatten(0, 1).index_select(0, places.to(answers.device)).to(self.device).float()


@dataclass(frozen=True)
class Extra:
    """(N, C) float32 by pool row"""

    values: Tensor
    device: str

    def __call__(self, batch: Batch) -> Tensor:
        if batch.split != "unlabelled":
            raise IndexError(f"the extras of the answers are those of the pool; asked for '{batch.split}'")
        return self.values.index_select(0, batch.index.to(self.values.device)).to(self.device)


@dataclass(frozen=True)
class Live:
    """The network itself answers, for the student's view or for the clean picture."""

    network: Frozen
    view: str

    def __call__(self, batch: Batch) -> Tensor:
        return self.network(batch.views[self.view]).float()


@dataclass(frozen=True)
class Ensemble:
    """The logarithm of the mean of the teachers' probabilities."""

    teachers: Sequence[Teacher]

    def __call__(self, batch: Batch) -> Tensor:
        return torch.stack([t(batch).softmax(1) for t in self.teachers]).mean(0).clamp_min(1e-30).log()


def live_teacher(networks: Sequence[Frozen], view: str) -> Teacher:
    """One live teacher, or the ensemble of several."""
    live = [Live(n, view) for n in networks]
    return live[0] if len(live) == 1 else Ensemble(live)
