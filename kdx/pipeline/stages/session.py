"""session: the data of one session of several that come one after another, made of a prepared data set: its
own labelled rows, some rows of the sessions before as "memory", and validation rows of all sessions so far.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.core.task import Task
from kdx.core.trees import from_leaves, leaves
from kdx.data.sessions import of_class, of_time, remembered
from kdx.data.stored import in_blocks, taken
from kdx.data.views.chain import Chain
from kdx.pipeline.stages.arrays import (
    IN_TIME,
    INPUTS,
    ORIGIN,
    ROW_NUMBERS,
    TRUTH,
    build_task,
    read_arrays,
    read_inputs,
    save_arrays,
)
from kdx.pipeline.stages.derived import lay_splits
from kdx.pipeline.stages.names import decoded_numbers
from kdx.pipeline.stages.other_pool import changed_once
from kdx.store.artifact import Artifact
from kdx.store.moved import kind_of_old
from kdx.store.work import Work
from kdx.tasks.several_heads import with_heads
from kdx.training.runtime import Runtime

_FEWEST = 2
"""Labelled rows of a session: of one nothing can be learned but itself."""


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    sessions: Mapping[str, Any],
    number: int,
    memory: int,
    joint: bool,
    seed: int,
) -> None:
    """sessions: "by", class, domain or time, "count", of classes "groups" of their numbers, of domains the
    "domains", a name and a step or None each, and the "seed" by which rows are given to them. number: of the
    session, from 1. memory: rows of the sessions before that come along, at most, as many of each class as
    can be. joint: all rows of the sessions so far in place of its own. seed: of the memory. Of this session
    `sessions` may say too "heads", the classes among which a row is answered where its class is known
    (kdx.tasks.several_heads), and "in_time", that a training passes over its rows as they stand.

    Files: as those of kdx.pipeline.stages.prepare, of the splits labelled, validation and, where there are
    such rows, memory; no pool and no test split.
    """
    task = build_task(data.json("data.json"))
    mine = session_of_rows(data, "labelled", task, sessions)
    wanted = mine < number if joint else mine == number - 1
    check_rows(int((mine == number - 1).sum()), number, sessions, data.json("data.json").get("classes"))
    splits = {"labelled": [("labelled", np.flatnonzero(wanted))]}
    earlier = np.flatnonzero(mine < number - 1)
    if memory and len(earlier):
        strata = task.strata(read_arrays(data, f"labelled.{TRUTH}"))
        groups = np.zeros(len(mine), np.int64) if strata is None else strata
        splits["memory"] = [("labelled", remembered(groups, earlier, memory, seed))]
    seen = session_of_rows(data, "validation", task, sessions) < number
    splits["validation"] = [("validation", np.flatnonzero(seen))]
    task_of_data = kind_of_old(data.json("data.json"))["task"]
    about: dict[str, Any] = {IN_TIME: True} if sessions.get(IN_TIME) else {}
    if heads := sessions.get("heads"):
        about["task"] = with_heads(task_of_data, heads)
    lay_splits(work, data, splits, session=number, **about)
    if sessions["by"] == "domain":
        lay_domains(work, data, splits, sessions)


def lay_domains(
    work: Work,
    data: Artifact,
    splits: Mapping[str, Sequence[tuple[str, np.ndarray]]],
    sessions: Mapping[str, Any],
) -> None:
    """Puts rows in place of the numbers that `lay_splits` wrote: each as its session's domain has it."""
    task = build_task(data.json("data.json"))
    for name, pieces in splits.items():
        ((split, rows),) = pieces
        where = session_of_rows(data, split, task, sessions)[rows]
        lazy = leaves(taken(read_inputs(data, split), rows))
        whole = {leaf: np.concatenate([*in_blocks(found), found[:0]]) for leaf, found in lazy.items()}
        for number in np.unique(where):
            part = where == number
            some = from_leaves({leaf: array[part] for leaf, array in whole.items()})
            for leaf, array in leaves(in_domain(name, some, sessions, int(number))).items():
                whole[leaf][part] = array
        numbers, origin = (work.path / f"{name}.{what}.npy" for what in (ROW_NUMBERS, ORIGIN))
        if not origin.exists():
            shutil.copyfile(numbers, origin)
        save_arrays(work, f"{name}.{INPUTS}", from_leaves(whole))
        np.save(numbers, np.arange(len(rows), dtype=np.int64))


def in_domain(name: str, inputs: Any, sessions: Mapping[str, Any], number: int) -> Any:
    """Rows of a split as the domain of a session has them. number: from 0."""
    called, step = sessions["domains"][number]
    if step is None:
        return inputs
    return changed_once(name, inputs, Chain([(called, step.build())]), sessions["seed"])


def session_of_rows(data: Artifact, split: str, task: Task, sessions: Mapping[str, Any]) -> np.ndarray:
    """(N,) the session of each row of a split, from 0. By time each split is cut into parts of its own, in
    the order of the rows in the data set; by domain into such at random."""
    if sessions["by"] == "class":
        strata = task.strata(read_arrays(data, f"{split}.{TRUTH}"))
        if strata is None:
            raise UserError("recipe.by=class cuts classes into sessions, and these rows have none")
        return of_class(strata, sessions["groups"])
    if sessions["by"] == "domain":
        rows = len(np.load(data.file(f"{split}.{ROW_NUMBERS}.npy")))
        return of_time(np.random.default_rng(sessions["seed"]).permutation(rows), sessions["count"])
    numbers = decoded_numbers(data, split)
    if numbers is None:
        numbers = np.load(data.file(f"{split}.{ROW_NUMBERS}.npy"))
    return of_time(numbers, sessions["count"])


def check_rows(
    rows: int, number: int, sessions: Mapping[str, Any], classes: Sequence[str] | None = None
) -> None:
    """Raises UserError where a session has hardly a row to learn from."""
    if rows >= _FEWEST:
        return
    own = sessions["groups"][number - 1] if sessions["by"] == "class" else []
    whose = f" (of {', '.join(str(classes[one]) for one in own[:5])})" if own and classes else ""
    raise UserError(
        f"session {number} of {sessions['count']}{whose} has {rows or 'no'} labelled "
        f"example{'s' * (rows != 1)}, and nothing is learned from fewer than {_FEWEST}: set "
        "dataset.labelled higher, or recipe.sessions lower"
    )
