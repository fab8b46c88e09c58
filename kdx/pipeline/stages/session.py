"""session: the data of one session of several that come one after another, made of a prepared data set: its
own labelled rows, some rows of the sessions before as "memory", and validation rows of all sessions so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.core.task import Task
from kdx.data.sessions import of_class, of_time, remembered
from kdx.pipeline.stages.arrays import ROW_NUMBERS, TRUTH, build_task, read_arrays
from kdx.pipeline.stages.derived import lay_splits
from kdx.pipeline.stages.names import decoded_numbers
from kdx.store.artifact import Artifact
from kdx.store.work import Work
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
    """sessions: "by", class or time, "count", and of classes "groups" of their numbers. number: of the
    session, from 1. memory: rows of the sessions before that come along, at most, as many of each class as
    can be. joint: all rows of the sessions so far in place of its own. seed: of the memory.

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
    lay_splits(work, data, splits, session=number)


def session_of_rows(data: Artifact, split: str, task: Task, sessions: Mapping[str, Any]) -> np.ndarray:
    """(N,) the session of each row of a split, from 0. By time each split is cut into parts of its own, in
    the order of the rows in the data set."""
    if sessions["by"] == "class":
        strata = task.strata(read_arrays(data, f"{split}.{TRUTH}"))
        if strata is None:
            raise UserError("recipe.by=class cuts classes into sessions, and these rows have none")
        return of_class(strata, sessions["groups"])
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
