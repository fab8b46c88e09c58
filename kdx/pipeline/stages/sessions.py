"""sessions: what networks that learned one session after another still know of each, on the test rows of all
of them. It opens the test split, as `evaluate` does; nothing is trained after it.

Definitions, R[i][j] being the metric of session j's test rows after session i of T:
average (Lopez-Paz and Ranzato 2017, arXiv 1706.08840): the mean of R[T][j] over j;
backward transfer (the same): the mean over j < T of R[T][j] - R[j][j];
forgetting (Chaudhry et al. 2018, arXiv 1801.10112): the mean over j < T of max over i < T of R[i][j], less
R[T][j].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from kdx.core.errors import UserError
from kdx.core.task import Categorical, Task
from kdx.core.trees import picked, tree
from kdx.core.types import Answers, Split
from kdx.data.reader import OfArray
from kdx.data.stored import LazyRows
from kdx.pipeline.stages.arrays import build_task, need_split, read_inputs
from kdx.pipeline.stages.files import open_network
from kdx.pipeline.stages.session import in_domain, session_of_rows
from kdx.store.artifact import Artifact
from kdx.store.work import Work
from kdx.training.predict import predict
from kdx.training.runtime import Runtime

Matrix = Sequence[Sequence[float]]
"""R: row i holds what is known after session i + 1 of sessions 1 to i + 1."""


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    arms: Mapping[str, Sequence[Artifact]],
    sessions: Mapping[str, Any],
    way: str,
) -> None:
    """arms: role -> its network after each session. sessions: as of kdx.pipeline.stages.session. way: how
    all else of the run answers a row.

    Files: sessions.json, {"names", "way", "rows": test rows of each session, "arms": role -> way ->
    `summed`}. Ways: "task", each row answered among the classes of its own session, of sessions by class;
    "single", among all classes that have come so far."""
    about = data.json("data.json")
    task = build_task(about)
    test = need_split(data, "test", runtime)
    parts = parts_of_sessions(data, test, task, sessions)
    found: dict[str, Any] = {}
    made = 0
    for role, networks in arms.items():
        matrices: dict[str, list[list[float]]] = {}
        for after, artifact in enumerate(networks):
            network = runtime.place(open_network(artifact))
            rows: dict[str, list[float]] = {}
            for number, part in enumerate(parts[: after + 1]):
                answers = predict(network, part, runtime)
                for how, narrowed in among(answers, task, after, number, sessions).items():
                    right = task.by_row(narrowed, part.known).double().mean().item()
                    rows.setdefault(how, []).append(right)
            for how, row in rows.items():
                matrices.setdefault(how, []).append(row)
            made += 1
            work.progress(made, sum(map(len, arms.values())), role)
        found[role] = {how: summed(matrix) for how, matrix in matrices.items()}
    work.write_json(
        "sessions.json",
        {
            "names": names(sessions, about.get("classes") or []),
            "way": way,
            "rows": [len(part) for part in parts],
            "arms": found,
        },
    )


def parts_of_sessions(data: Artifact, test: Split, task: Task, sessions: Mapping[str, Any]) -> list[Split]:
    """The test rows of each session; by domain each has all of them, changed in its way. Raises UserError
    where one has none."""
    if sessions["by"] == "domain":
        rows = read_inputs(data, "test")
        made = [in_domain("test", rows, sessions, number) for number in range(sessions["count"])]
        return [Split("test", tree(as_read, inputs), test.truth) for inputs in made]
    where = session_of_rows(data, "test", task, sessions)
    found = []
    for number in range(sessions["count"]):
        own = torch.from_numpy(np.flatnonzero(where == number))
        if not len(own):
            raise UserError(
                f"session {number + 1} of {sessions['count']} has no test row: set dataset.test higher"
            )
        found.append(Split("test", picked(test.inputs, own), picked(test.known, own)))
    return found


def as_read(leaf: Any) -> Any:
    return OfArray(leaf) if isinstance(leaf, LazyRows) else torch.from_numpy(np.ascontiguousarray(leaf))


def among(
    answers: Answers, task: Task, after: int, number: int, sessions: Mapping[str, Any]
) -> dict[str, Answers]:
    """way -> the answers to the rows of a session where only some classes are in question. after, number:
    the last session that was learned, and that of the rows, from 0."""
    if sessions["by"] != "class" or not isinstance(task, Categorical):
        return {"single": answers}
    groups = sessions["groups"]
    every = [one for group in groups[: after + 1] for one in group]
    return {"task": task.narrow(answers, groups[number]), "single": task.narrow(answers, every)}


def names(sessions: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    """What each session is called: its classes, or its number."""
    if sessions["by"] == "class":
        called = [[str(classes[one]) for one in group] for group in sessions["groups"]]
        return [f"{one[0]} to {one[-1]}" if len(one) > 3 else ", ".join(one) for one in called]
    if sessions["by"] == "domain":
        return [name for name, _ in sessions["domains"]]
    return [str(number) for number in range(1, sessions["count"] + 1)]


def summed(matrix: Matrix) -> dict[str, Any]:
    """{"matrix", "average", "forgetting", "backward", "old": the mean of R[T][j] over j < T, "last":
    R[T][T]}, as fractions; what takes two sessions is None with one."""
    end, old = matrix[-1], range(len(matrix) - 1)
    several = len(matrix) > 1

    def mean(values: Sequence[float]) -> float | None:
        return float(np.mean(values)) if several else None

    return {
        "matrix": [list(row) for row in matrix],
        "average": float(np.mean(end)),
        "forgetting": mean([max(matrix[i][j] for i in range(j, len(matrix) - 1)) - end[j] for j in old]),
        "backward": mean([end[j] - matrix[j][j] for j in old]),
        "old": mean([end[j] for j in old]),
        "last": float(end[-1]),
    }
