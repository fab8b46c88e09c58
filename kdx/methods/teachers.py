"""The teacher's answers on disk: half-precision logits by (split, row, view), and the teachers that give them
back.
"""

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
CLEAN = "clean"
"""Name of the file, and of its entry, that holds the answers for the clean pictures of the pool where the
others are for augmented ones.
"""
SAMPLE, SAMPLED = "sample", 20_000
"""Name of the file, and of its entry, that holds answers to one view of at most so many rows of the pool,
where the teacher is asked live and the views that are learned from are not stored: the audit alone reads
them."""
HALF_MAX = 60000.0
"""Logits beyond half precision's range are cut off here; softmax of such a row is one-hot either way."""


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

    @staticmethod
    def open(artifact: Artifact, device: str) -> Stored:
        about = artifact.json("answers.json")
        splits = {name: s for name, s in about["splits"].items() if name not in (CLEAN, SAMPLE)}
        answers = {name: _read(artifact.file(f"{name}.npy"), device) for name in splits}
        places = torch.from_numpy(np.load(artifact.file("places.npy"))) if about["bought"] else None
        return Stored(answers, {n: s["first"] for n, s in splits.items()}, about["clean"], device, places)

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


def clean_answers(artifact: Artifact) -> np.ndarray | None:
    """The teacher's answers for the clean pictures of the whole pool, (N, C) float16, mapped; None where it
    was not asked about all of them.
    """
    about = artifact.json("answers.json")
    if about["bought"]:
        return None
    name = (
        CLEAN
        if CLEAN in about["splits"]
        else "unlabelled"
        if about["clean"] and "unlabelled" in about["splits"]
        else None
    )
    return np.load(artifact.file(f"{name}.npy"), mmap_mode="r")[:, 0] if name else None


def learned_answers(artifact: Artifact) -> tuple[np.ndarray, np.ndarray] | None:
    """(rows of the pool (n,), the teacher's answers to views that the student learns from (n, V, C) float16,
    mapped); None where pictures were mixed, as an answer then belongs to no row. Where the teacher is asked
    live, one view of some rows stands for all of them.
    """
    about = artifact.json("answers.json")
    if about["mixed"]:
        return None
    if SAMPLE in about["splits"]:
        return sampled_rows(about["pool"]), np.load(artifact.file(f"{SAMPLE}.npy"), mmap_mode="r")
    if about["bought"]:
        places = np.load(artifact.file("places.npy"))
        rows = np.flatnonzero(places >= 0)
        return rows, np.load(artifact.file("unlabelled.npy"))[places[rows]]
    name = "unlabelled" if "unlabelled" in about["splits"] else CLEAN
    found = np.load(artifact.file(f"{name}.npy"), mmap_mode="r")
    return np.arange(len(found)), found


def sampled_rows(pool: int) -> np.ndarray:
    """The rows of a pool that SAMPLE answers, evenly spread: ascending int64."""
    return np.unique(np.linspace(0, pool - 1, min(pool, SAMPLED)).astype(np.int64))


def extras(artifact: Artifact, device: str) -> dict[str, Teacher]:
    """What a label artifact holds of the pool beside answers, by name (see kdx.core.Parts.extras)."""
    return {
        name: _Extra(_read(artifact.file(f"extra.{name}.npy"), device), device)
        for name in artifact.json("answers.json")["extras"]
    }


@dataclass(frozen=True)
class _Extra:
    """(N, C) float32 by pool row"""

    values: Tensor
    device: str

    def __call__(self, batch: Batch) -> Tensor:
        if batch.split != "unlabelled":
            raise IndexError(f"the extras of the answers are those of the pool; asked for '{batch.split}'")
        return self.values.index_select(0, batch.index.to(self.values.device)).to(self.device)


def _read(path: Path, device: str) -> Tensor:
    if path.stat().st_size <= SMALL:
        return torch.from_numpy(np.load(path)).to(device)
    # copy-on-write, as torch wants memory that it may write; nobody writes
    return torch.from_numpy(np.load(path, mmap_mode="c"))


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
