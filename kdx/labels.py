"""The teacher's answers on disk: half-precision logits by (split, row, view), and the teachers that give them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdx.artifact import Artifact
from kdx.core import Batch, Frozen, Teacher

SMALL = 1 << 28
"""Answers of up to so many bytes are read to the device; larger ones stay mapped."""
HALF_MAX = 60000.0
"""Logits beyond half precision's range are cut off here; softmax of such a row is one-hot either way."""


@dataclass(frozen=True)
class Stored:
    """Answers by row and view from a label artifact's files.

    answers: split -> (N, V, C) float16, on the device or memory-mapped; slot v holds view `first[split]` + v.
    """

    answers: Mapping[str, Tensor]
    first: Mapping[str, int]
    clean: bool
    device: str

    @staticmethod
    def open(artifact: Artifact, device: str) -> Stored:
        about = artifact.json("answers.json")
        answers = {name: _read(artifact.file(f"{name}.npy"), device) for name in about["splits"]}
        return Stored(answers, {n: s["first"] for n, s in about["splits"].items()}, about["clean"], device)

    def __call__(self, batch: Batch) -> Tensor:
        """Logits (B, C) float32 of exactly the pixels of `batch` (or, with clean answers, of the clean picture)."""
        answers, index, view = self.answers[batch.split], batch.index.cpu(), batch.view.cpu()
        views, first = answers.shape[1], self.first[batch.split]
        if self.clean:
            places = index * views
        else:
            low, high = map(int, view.aminmax()) if len(view) else (first, first)
            if low < first or high >= first + views:
                raise IndexError(f"no stored answer for view {low if low < first else high} of '{batch.split}': {views} views are stored")
            places = torch.add(view - first, index, alpha=views)
        # index_select copies whole rows, five times as fast as numpy's indexing; they travel as float16, half the bytes.
        return answers.flatten(0, 1).index_select(0, places.to(answers.device)).to(self.device).float()


def _read(path: Path, device: str) -> Tensor:
    if path.stat().st_size <= SMALL:
        return torch.from_numpy(np.load(path)).to(device)
    return torch.from_numpy(np.load(path, mmap_mode="c"))  # copy-on-write, as torch wants memory that it may write; nobody writes


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


def teach(networks: Sequence[Frozen], view: str) -> Teacher:
    """One live teacher, or the ensemble of several."""
    live = [Live(n, view) for n in networks]
    return live[0] if len(live) == 1 else Ensemble(live)
