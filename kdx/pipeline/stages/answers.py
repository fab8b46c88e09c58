"""The teacher's answers on disk, as the task packs them, by (split, row, view): opened as teachers and as
arrays."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdx.core.errors import UserError
from kdx.core.task import Task
from kdx.core.types import Teacher
from kdx.data.ragged import RaggedReader
from kdx.data.reader import OfArray, open_array
from kdx.methods.teachers import Extra, Stored
from kdx.pipeline.stages.arrays import TRUTH, read_truth
from kdx.pipeline.stages.packing import leaves_of, shared_beside
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.training.memory import held_at_most

_SMALL = 1 << 28
"""Answers of up to so many bytes are read at once, larger ones as they are asked for; on a GPU see
`held_at_most`."""
CLEAN = "clean"
"""Name of the file, and of its entry, that holds the answers to the clean rows of the pool where the others
are to augmented ones.
"""
SOME = "answered.validation"
"""Name of the file of answers to some rows of validation, which a file of answers has where it lacks others:
apart, as all that estimates on validation reads answers to all of it."""
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


def stored_answers(
    artifact: Artifact, device: str, views: str, task: Task, temperature: float | None = None
) -> Stored:
    """The teacher that a label artifact's files hold. views: `digest_of_views` of who learns from it. Raises
    UserError where the answers are to other inputs; those to the clean rows hang on no chain. temperature: of
    the loss, which must be that of answers of which a part was kept; None: it is not asked.
    """
    about = artifact.json("answers.json")
    heat = about.get("format", {}).get("temperature", temperature)
    if temperature is not None and heat != temperature:
        raise UserError(
            f"the answers in '{artifact.path}' are parts of probabilities at the temperature {heat:g}, and "
            f"loss.temperature is {temperature:g} here: label them again with that"
        )
    if not about["clean"] and about["views"] != views:
        raise UserError(
            f"the answers in '{artifact.path}' are for other views than this training shows: by "
            f"another augmentation or seed (digest {about['views'][:12]}, and here {views[:12]}); label them "
            "with the chain of this training, or set pseudo_label.view=clean"
        )
    splits = {name: s for name, s in about["splits"].items() if name not in (CLEAN, SAMPLE)}
    answers = {name: _read_all(artifact, name, device) for name in splits}
    where = {
        name: torch.from_numpy(found) for name in splits if (found := places(artifact, name)) is not None
    }
    return Stored(answers, {n: s["first"] for n, s in splits.items()}, about["clean"], device, task, where)


def clean_answers(artifact: Artifact) -> dict[str, np.ndarray] | None:
    """The teacher's answers to the clean rows of the whole pool, (N, ...) as they are packed, mapped; None
    where it was not asked about all of them.
    """
    asked, found = pool_answers(artifact)
    return found if asked is None else None


def pool_answers(artifact: Artifact) -> tuple[np.ndarray | None, dict[str, np.ndarray] | None]:
    """(rows of the pool that the teacher was asked about, ascending, None: all; its answers to these rows,
    clean where there are such, (n, ...) as they are packed, mapped, None: there are none)."""
    about = artifact.json("answers.json")
    clean = about["clean"] and "unlabelled" in about["splits"]
    name = CLEAN if CLEAN in about["splits"] else "unlabelled" if clean or about["bought"] else None
    where = places(artifact, "unlabelled")
    asked = None if where is None else np.flatnonzero(where >= 0)
    if name is None:
        return asked, None
    return asked, {leaf: found[:, 0] for leaf, found in mapped(artifact.path, name).items()}


def places_file(split: str) -> str:
    """Where in the files of answers the row of a split lies, -1: nowhere; none where all rows are there, in
    order."""
    return "places.npy" if split == "unlabelled" else f"places.{split}.npy"


def places(artifact: Artifact, split: str) -> np.ndarray | None:
    file = artifact.file(places_file(split))
    return np.load(file) if file.is_file() else None


def mapped(folder: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays of one file's name, (N, V, ...), left on the disk; rows of draws are read as they are asked
    for, and what all rows share is a `SharedRows`."""
    found = leaves_of(folder, name, lambda path: np.load(path, mmap_mode="r"), lambda rows: rows)
    return shared_beside(found, folder, "cpu")


def score_of_validation(folder: Path, data: Artifact, task: Task) -> float | None:
    """The teacher's metric on validation; None where its answers alone do not tell it. folder: of these."""
    truth = read_truth(data, f"validation.{TRUTH}")
    stored = {} if truth is None else mapped(folder, "validation")
    if truth is None or not stored:
        return None
    first = {leaf: found[:, 0] for leaf, found in stored.items()}
    found = float(task.metrics(task.condensed(first, truth), truth)[task.primary])
    return None if math.isnan(found) else found


def measured_answers(
    artifact: Artifact, counts: Mapping[str, int]
) -> dict[str, tuple[np.ndarray | None, dict[str, np.ndarray]]]:
    """split -> (the rows that are answered, ascending, None: all; answers that were given in a file, (n, ...)
    as they are packed), of the splits whose every row has one, and of validation where some have. counts:
    rows of each."""
    given = artifact.json("answers.json")["given"]
    found: dict[str, tuple[np.ndarray | None, dict[str, np.ndarray]]] = {}
    for split, rows in counts.items():
        if rows and given.get(split) == rows:
            found[split] = None, {leaf: all_[:, 0] for leaf, all_ in mapped(artifact.path, split).items()}
        elif split == "validation" and (some := some_of_validation(artifact)):
            found[split] = some
    return found


def some_of_validation(artifact: Artifact) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
    """(rows of validation that a file answers, ascending; its answers, (n, ...) as they are packed) where it
    answers some and not all; None else."""
    where, found = places(artifact, "validation"), mapped(artifact.path, SOME)
    if where is None or not found:
        return None
    return np.flatnonzero(where >= 0), {leaf: array[:, 0] for leaf, array in found.items()}


def learned_answers(artifact: Artifact) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
    """(rows of the pool (n,), the teacher's answers to views that the student learns from, (n, V, ...) as
    they are packed, mapped); None where rows were mixed, as an answer then belongs to no row, and where the
    teacher wrote text in place of answers. Where it is asked live, one view of some rows stands for all of
    them.
    """
    about = artifact.json("answers.json")
    if about["mixed"]:
        return None
    asked, _ = pool_answers(artifact)
    asked = np.arange(about["pool"]) if asked is None else asked
    if SAMPLE in about["splits"]:
        return asked[sampled_rows(len(asked))], mapped(artifact.path, SAMPLE)
    found = mapped(artifact.path, "unlabelled" if "unlabelled" in about["splits"] else CLEAN)
    return (asked, found) if found else None


def sampled_rows(pool: int) -> np.ndarray:
    """The rows of a pool that SAMPLE answers, evenly spread: ascending int64."""
    return np.unique(np.linspace(0, pool - 1, min(pool, SAMPLED)).astype(np.int64))


def extras(artifact: Artifact, device: str) -> dict[str, Teacher]:
    """What a label artifact holds of the pool beside answers, by name (see kdx.core.types.Parts.extras)."""
    return {
        name: Extra(_read(artifact.file(f"extra.{name}.npy"), device), device)
        for name in artifact.json("answers.json")["extras"]
    }


def _read_all(artifact: Artifact, name: str, device: str) -> dict[str, Any]:
    found = leaves_of(artifact.path, name, lambda path: _read(path, device), RaggedReader)
    return shared_beside(found, artifact.path, device)


def _read(path: Path, device: str) -> Tensor | OfArray:
    found = open_array(path, held_at_most(device, _SMALL), device)
    # rows of uint16 are not picked on every device, and `read_sparse` knows either
    of_ids = isinstance(found, Tensor) and found.dtype == torch.uint16
    return found.view(torch.int16) if isinstance(found, Tensor) and of_ids else found
