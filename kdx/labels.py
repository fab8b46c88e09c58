"""The teacher's answers on disk: half-precision logits by (split, row, view), and the teachers that give them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdx.core import Batch, Frozen, Teacher
from kdx.store import Artifact

HALF_MAX = 60000.0
"""Logits beyond half precision's range are cut off here; softmax of such a row is one-hot either way."""


@dataclass(frozen=True)
class Stored:
    """Answers by row and view from one or more label artifacts' files.

    answers: split -> (N, V, C) half-precision array; slot v holds view `first[split]` + v.
    """

    answers: Mapping[str, np.ndarray]
    first: Mapping[str, int]
    clean: bool
    device: str

    @staticmethod
    def open(artifact: Artifact, device: str) -> Stored:
        about = artifact.json("answers.json")
        arrays = {name: np.load(artifact.file(f"{name}.npy"), mmap_mode="r") for name in about["splits"]}
        return Stored(arrays, {n: s["first"] for n, s in about["splits"].items()}, about["clean"], device)

    def __call__(self, batch: Batch) -> Tensor:
        """Logits (B, C) float32 of exactly the pixels of `batch` (or, with clean answers, of the clean picture)."""
        slot = np.zeros(len(batch), dtype=np.int64) if self.clean else batch.view.cpu().numpy() - self.first[batch.split]
        array = self.answers[batch.split]
        if len(slot) and (slot.min() < 0 or slot.max() >= array.shape[1]):
            raise IndexError(f"no stored answer for view {batch.view.max().item()} of '{batch.split}': {array.shape[1]} views are stored")
        return torch.from_numpy(array[batch.index.cpu().numpy(), slot].astype(np.float32)).to(self.device)


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
