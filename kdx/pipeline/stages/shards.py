"""shard-teachers: a teacher for each of many disjoint parts of the private rows, one after the other, and
what each names first for the public rows that are asked about. Nothing else of them is kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdx.core.errors import UserError
from kdx.core.task import Categorical
from kdx.core.trees import moved, tree
from kdx.core.types import Split
from kdx.data.reader import OfArray
from kdx.methods.private_votes import votes_named
from kdx.pipeline.stages import pretrain
from kdx.pipeline.stages.arrays import TRUTH, build_task, need_split, read_arrays
from kdx.pipeline.stages.derived import lay_splits
from kdx.pipeline.stages.files import open_network
from kdx.store.artifact import Artifact
from kdx.store.stage import subseed
from kdx.store.work import Listener, Work
from kdx.training.predict import predict
from kdx.training.runtime import Runtime

_FEWEST = 2
"""Classes that the rows of a teacher must have."""


@dataclass(frozen=True)
class _Shards:
    """What every teacher of a run has in common. training: the inputs of kdx.pipeline.stages.pretrain that
    are the same for all."""

    data: Artifact
    asked: Split
    task: Categorical
    rows: Sequence[np.ndarray]
    seed: int
    training: dict[str, Any]


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    public: Artifact,
    shards: int,
    queries: int,
    seed: int,
    **training: Any,
) -> None:
    """data: the private rows, public: those of whose pool `queries` rows are asked about, drawn by the seed.
    training: inputs of kdx.pipeline.stages.pretrain.

    Files: said.npy (M, Q) int64, the first choice of each teacher; asked.npy (Q,) int64, rows of the public
    pool, ascending; shards.json.
    """
    about = data.json("data.json")
    task = voting_task(about)
    pool = need_split(public, "unlabelled", runtime)
    asked = drawn_queries(len(pool), min(queries, len(pool)), subseed(seed, "asked"))
    rows = parts(about["counts"]["labelled"], shards, subseed(seed, "shards"))
    check_shards(read_arrays(data, f"labelled.{TRUTH}"), rows, about["classes"])
    whole = _Shards(data, only_rows(pool, asked), task, rows, seed, training)
    said = _so_far(work, len(asked))
    for number in range(len(said), shards):
        work.progress(number, shards, f"teacher {number + 1} of {shards}")
        said = np.concatenate([said, _one(work, runtime, whole, number)[None]])
        _keep(work, said)
    np.save(work.path / "said.npy", said)
    np.save(work.path / "asked.npy", asked)
    work.write_json(
        "shards.json",
        {"shards": shards, "queries": len(asked), "classes": len(about["classes"]), "rows": len(rows[0])},
    )


def voting_task(about: Mapping[str, Any]) -> Categorical:
    """about: the data.json. Raises UserError where answers are no one class of several."""
    task = build_task(about)
    if not isinstance(task, Categorical) or "classes" not in about:
        raise UserError(
            f"recipe=private counts votes for classes, and this data set asks for {task.words}: "
            "choose one with classes, or leave recipe= out"
        )
    return task


def drawn_queries(rows: int, count: int, seed: int) -> np.ndarray:
    """(count,) int64 ascending, of so many rows"""
    random = np.random.Generator(np.random.PCG64(seed))
    return np.sort(random.permutation(rows)[:count]).astype(np.int64)


def parts(rows: int, shards: int, seed: int) -> list[np.ndarray]:
    """The rows of each shard, as many in each, or one more. Which shard a row is in hangs on its number and
    the seed alone, and on no row: so a row that is replaced changes one teacher, and no other."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(rows)
    return [np.sort(part).astype(np.int64) for part in np.array_split(order, shards)]


def check_shards(truth: Any, rows: Sequence[np.ndarray], classes: Sequence[Any]) -> None:
    """Raises UserError where a teacher would see one class alone."""
    for number, part in enumerate(rows, 1):
        seen = np.unique(np.asarray(truth)[part])
        if len(seen) < _FEWEST:
            only = (
                f"of one class only, '{classes[int(seen[0])]}'" if len(seen) else "at all: there are too few"
            )
            raise UserError(
                f"recipe.shards={len(rows)}: the teacher of shard {number} would have {len(part)} rows "
                f"{only}; set recipe.shards lower, or give more private rows (dataset.labelled)"
            )


def only_rows(split: Split, rows: np.ndarray) -> Split:
    """These rows of a split, without their truth."""
    index = torch.from_numpy(rows)

    def some(leaf: Any) -> Any:
        lazy = isinstance(leaf, OfArray)
        return OfArray(leaf.rows.take(rows)) if lazy else leaf[index.to(leaf.device)]

    return Split(split.name, tree(some, split.inputs), None)


def _one(work: Work, runtime: Runtime, whole: _Shards, number: int) -> np.ndarray:
    """(Q,) what the teacher of a shard names first; its network and its rows do not stay."""
    folder = work.path / "shard"
    shutil.rmtree(folder, ignore_errors=True)
    data, trained = (_place(folder, name) for name in ("data", "teacher"))
    lay_splits(
        Work(data, work.name, Listener()),
        whole.data,
        {
            "labelled": [("labelled", whole.rows[number])],
            "validation": [("validation", np.zeros(0, np.int64))],
        },
    )
    pretrain.run(
        Work(trained, "teacher-pretrain", Listener(), f"{work.key}-{number}"),
        runtime,
        data=Artifact("divide", work.key, data),
        seed=subseed(whole.seed, "teacher", number),
        views_seed=subseed(whole.seed, "views", number),
        **whole.training,
    )
    network = runtime.place(open_network(Artifact("teacher-pretrain", work.key, trained)))
    found = votes_of(network, whole.asked, whole.task, runtime)
    shutil.rmtree(folder)
    return found


def votes_of(network: Any, asked: Split, task: Categorical, runtime: Runtime) -> np.ndarray:
    """(Q,) int64"""
    said = moved(predict(network, asked, runtime), "cpu")
    return votes_named(np.asarray(task.probs(said)))


def _place(folder: Path, name: str) -> Path:
    found = folder / name
    found.mkdir(parents=True)
    return found


def _so_far(work: Work, queries: int) -> np.ndarray:
    """(M, Q) of the teachers that a killed stage had asked."""
    nothing = np.zeros((0, queries), np.int64)
    if not work.kept():
        return nothing
    try:
        with work.checkpoint.open("rb") as file:
            found: np.ndarray = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        work.begin_anew(str(error))
        return nothing
    work.note(f"goes on after {len(found)} teachers")
    return found


def _keep(work: Work, said: np.ndarray) -> None:
    temporary = work.path / ".said.tmp"
    with temporary.open("wb") as file:
        np.save(file, said)
        file.flush()
        os.fsync(file.fileno())
    work.keep(temporary)
