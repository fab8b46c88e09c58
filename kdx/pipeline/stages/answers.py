"""The teacher's answers on disk: half-precision logits by (split, row, view), opened as teachers and as
arrays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdx.core.errors import UserError
from kdx.core.types import Teacher
from kdx.methods.teachers import Extra, Stored
from kdx.store.artifact import Artifact
from kdx.store.component import Component

_SMALL = 1 << 28
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


def digest_of_views(augment: Iterable[Sequence[Any]], seed: int) -> str:
    """One hash of all that decides the pixels of a row's view: the chain's steps, as pairs of a name and a
    component or its spec, and the seed.
    """
    chain = [[name, step.spec if isinstance(step, Component) else step] for name, step in augment]
    return hashlib.sha256(json.dumps([chain, seed], sort_keys=True).encode()).hexdigest()


def stored_answers(artifact: Artifact, device: str, views: str) -> Stored:
    """The teacher that a label artifact's files hold. views: `digest_of_views` of who learns from it. Raises
    UserError where the answers are for other pixels; those for the clean pictures hang on no chain.
    """
    about = artifact.json("answers.json")
    if not about["clean"] and about["views"] != views:
        raise UserError(
            f"the answers in '{artifact.path}' are for other pixels than this training shows: for views by "
            f"another augmentation or seed (digest {about['views'][:12]}, and here {views[:12]}); label them "
            "with the chain of this training, or set pseudo_label.view=clean"
        )
    splits = {name: s for name, s in about["splits"].items() if name not in (CLEAN, SAMPLE)}
    answers = {name: _read(artifact.file(f"{name}.npy"), device) for name in splits}
    places = torch.from_numpy(np.load(artifact.file("places.npy"))) if about["bought"] else None
    return Stored(answers, {n: s["first"] for n, s in splits.items()}, about["clean"], device, places)


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
    """What a label artifact holds of the pool beside answers, by name (see kdx.core.types.Parts.extras)."""
    return {
        name: Extra(_read(artifact.file(f"extra.{name}.npy"), device), device)
        for name in artifact.json("answers.json")["extras"]
    }


def _read(path: Path, device: str) -> Tensor:
    if path.stat().st_size <= _SMALL:
        return torch.from_numpy(np.load(path)).to(device)
    # copy-on-write, as torch wants memory that it may write; nobody writes
    return torch.from_numpy(np.load(path, mmap_mode="c"))
