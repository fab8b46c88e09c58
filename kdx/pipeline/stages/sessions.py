"""sessions: what networks that learned one session after another still know of each, on the test rows of all
of them. Beside `evaluate` the only stage that opens the test split; nothing is trained after it.

Definitions, R[i][j] being the metric of session j's test rows after session i of T:
average accuracy (Lopez-Paz and Ranzato 2017, arXiv 1706.08840): the mean of R[T][j] over j;
backward transfer (the same): the mean over j < T of R[T][j] - R[j][j];
forgetting (Chaudhry et al. 2018, arXiv 1801.10112): the mean over j < T of max over i < T of R[i][j], less
R[T][j].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from kdx.core.task import Categorical, Task
from kdx.core.trees import leaves, tree
from kdx.core.types import Answers
from kdx.pipeline.stages.arrays import build_task, need_split
from kdx.pipeline.stages.files import open_network
from kdx.pipeline.stages.session import session_of_rows
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
) -> None:
    """arms: role -> its network after each session. sessions: as of kdx.pipeline.stages.session.

    Files: sessions.json, {"names", "rows": test rows of each session, "arms": role -> way ->
    `summary`}. Ways: "task", each row answered among the classes of its own session, of sessions by class;
    "single", among all classes that have come so far."""
    about = data.json("data.json")
    task = build_task(about)
    test = need_split(data, "test", runtime)
    where = torch.from_numpy(session_of_rows(data, "test", task, sessions))
    found: dict[str, Any] = {}
    made = 0
    for role, networks in arms.items():
        matrices: dict[str, list[list[float]]] = {}
        for after, artifact in enumerate(networks):
            answers = predict(runtime.place(open_network(artifact)), test, runtime)
            for way, narrowed in among(answers, task, after, where, sessions).items():
                right = task.by_row(narrowed, test.known).double()
                row = [right[where == one].mean().item() for one in range(after + 1)]
                matrices.setdefault(way, []).append(row)
            made += 1
            work.progress(made, sum(map(len, arms.values())), role)
        found[role] = {way: summary(matrix) for way, matrix in matrices.items()}
    work.write_json(
        "sessions.json",
        {
            "names": names(sessions, about.get("classes") or []),
            "rows": np.bincount(where.numpy(), minlength=sessions["count"]).tolist(),
            "arms": found,
        },
    )


def among(
    answers: Answers, task: Task, after: int, where: torch.Tensor, sessions: Mapping[str, Any]
) -> dict[str, Answers]:
    """way -> the answers where only some classes are in question. after: sessions that were learned before
    the last, from 0. where: (N,) the session of each row."""
    if sessions["by"] != "class" or not isinstance(task, Categorical):
        return {"single": answers}
    groups = sessions["groups"]
    single = task.narrow(answers, [one for group in groups[: after + 1] for one in group])
    own = [tree(lambda leaf: leaf.clone(), task.narrow(answers, group)) for group in groups[: after + 1]]
    for number in range(1, after + 1):
        rows = where == number
        for leaf, values in leaves(own[0]).items():
            values[rows] = leaves(own[number])[leaf][rows]
    return {"task": own[0], "single": single}


def names(sessions: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    """What each session is called: its classes, or its number."""
    if sessions["by"] == "class":
        called = [[str(classes[one]) for one in group] for group in sessions["groups"]]
        return [f"{one[0]} to {one[-1]}" if len(one) > 3 else ", ".join(one) for one in called]
    return [str(number) for number in range(1, sessions["count"] + 1)]


def summary(matrix: Matrix) -> dict[str, Any]:
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
