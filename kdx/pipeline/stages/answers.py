"""The teacher's answers on disk, as the task packs them, by (split, row, view): opened as teachers and as
arrays."""

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
from kdx.core.task import Task
from kdx.core.trees import rows_of
from kdx.core.types import Teacher
from kdx.methods.teachers import Extra, Stored
from kdx.pipeline.stages.arrays import array_files
from kdx.store.artifact import Artifact
from kdx.store.component import Component

_SMALL = 1 << 28
"""Answers of up to so many bytes are read to the device; larger ones stay mapped."""
CLEAN = "clean"
"""Name of the file, and of its entry, that holds the answers to the clean rows of the pool where the others
are to augmented ones.
"""
SAMPLE, SAMPLED = "sample", 20_000
"""Name of the file, and of its entry, that holds answers to one view of at most so many rows of the pool,
where the teacher is asked live and the views that are learned from are not stored: the audit alone reads
them."""


def digest_of_views(augment: Iterable[Sequence[Any]], seed: int) -> str:
    """One hash of all that decides the inputs of a row's view: the chain's steps, as pairs of a name and a
    component or its spec, and the seed.
    """
    chain = [[name, step.spec if isinstance(step, Component) else step] for name, step in augment]
    return hashlib.sha256(json.dumps([chain, seed], sort_keys=True).encode()).hexdigest()


def stored_answers(artifact: Artifact, device: str, views: str, task: Task) -> Stored:
    """The teacher that a label artifact's files hold. views: `digest_of_views` of who learns from it. Raises
    UserError where the answers are to other inputs; those to the clean rows hang on no chain.
    """
    about = artifact.json("answers.json")
    if not about["clean"] and about["views"] != views:
        raise UserError(
            f"the answers in '{artifact.path}' are for other views than this training shows: by "
            f"another augmentation or seed (digest {about['views'][:12]}, and here {views[:12]}); label them "
            "with the chain of this training, or set pseudo_label.view=clean"
        )
    splits = {name: s for name, s in about["splits"].items() if name not in (CLEAN, SAMPLE)}
    answers = {name: _read_all(artifact, name, device) for name in splits}
    places = torch.from_numpy(np.load(artifact.file("places.npy"))) if about["bought"] else None
    return Stored(answers, {n: s["first"] for n, s in splits.items()}, about["clean"], device, task, places)


def clean_answers(artifact: Artifact) -> dict[str, np.ndarray] | None:
    """The teacher's answers to the clean rows of the whole pool, (N, ...) as they are packed, mapped; None
    where it was not asked about all of them.
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
    return {leaf: found[:, 0] for leaf, found in mapped(artifact.path, name).items()} if name else None


def mapped(folder: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays of one file's name, (N, V, ...), left on the disk."""
    return {leaf: np.load(path, mmap_mode="r") for leaf, path in array_files(folder, name).items()}


def learned_answers(artifact: Artifact) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
    """(rows of the pool (n,), the teacher's answers to views that the student learns from, (n, V, ...) as
    they
    are packed, mapped); None where rows were mixed, as an answer then belongs to no row. Where the teacher is
    asked live, one view of some rows stands for all of them.
    """
    about = artifact.json("answers.json")
    if about["mixed"]:
        return None
    if SAMPLE in about["splits"]:
        return sampled_rows(about["pool"]), mapped(artifact.path, SAMPLE)
    if about["bought"]:
        places = np.load(artifact.file("places.npy"))
        rows = np.flatnonzero(places >= 0)
        found = mapped(artifact.path, "unlabelled")
        return rows, {leaf: np.asarray(values)[places[rows]] for leaf, values in found.items()}
    name = "unlabelled" if "unlabelled" in about["splits"] else CLEAN
    found = mapped(artifact.path, name)
    return np.arange(rows_of(found)), found


def sampled_rows(pool: int) -> np.ndarray:
    """The rows of a pool that SAMPLE answers, evenly spread: ascending int64."""
    return np.unique(np.linspace(0, pool - 1, min(pool, SAMPLED)).astype(np.int64))


def extras(artifact: Artifact, device: str) -> dict[str, Teacher]:
    """What a label artifact holds of the pool beside answers, by name (see kdx.core.types.Parts.extras)."""
    return {
        name: Extra(_read(artifact.file(f"extra.{name}.npy"), device), device)
        for name in artifact.json("answers.json")["extras"]
    }


def _read_all(artifact: Artifact, name: str, device: str) -> dict[str, Tensor]:
    return {leaf: _read(path, device) for leaf, path in array_files(artifact.path, name).items()}


def _read(path: Path, device: str) -> Tensor:
    if path.stat().st_size <= _SMALL:
        return torch.from_numpy(np.load(path)).to(device)
    # copy-on-write, as torch wants memory that it may write; nobody writes
    return torch.from_numpy(np.load(path, mmap_mode="c"))
