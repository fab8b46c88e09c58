"""prequential: what networks that go with a stream know of each chunk before they learn it (test-then-train).
It opens labelled rows alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from kdx.core.trees import picked
from kdx.core.types import Split
from kdx.pipeline.stages.arrays import build_task, need_split
from kdx.pipeline.stages.files import open_network
from kdx.pipeline.stages.session import session_of_rows
from kdx.store.artifact import Artifact
from kdx.store.work import Work
from kdx.training.predict import predict
from kdx.training.runtime import Runtime


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    arms: Mapping[str, Sequence[Artifact]],
    sessions: Mapping[str, Any],
    first: int,
) -> None:
    """arms: role -> its network after chunk `first`, the one after it, and so on to the last. sessions: as of
    kdx.pipeline.stages.session.

    Files: prequential.json, {"chunks": numbers of those that were tested on, from 1, "rows": of each, "arms":
    role -> {"by_chunk": the metric that counts, as a mean over rows, "mean": over the rows of all}}."""
    task = build_task(data.json("data.json"))
    split = need_split(data, "labelled", runtime)
    where = session_of_rows(data, "labelled", task, sessions)
    chunks = list(range(first + 1, sessions["count"] + 1))
    rows = [np.flatnonzero(where == chunk - 1) for chunk in chunks]
    counts, found = [len(one) for one in rows], {}
    for done, (role, networks) in enumerate(arms.items(), 1):
        values = []
        for artifact, index in zip(networks, rows, strict=False):
            numbers = torch.from_numpy(index)
            chunk = Split("labelled", picked(split.inputs, numbers), picked(split.known, numbers))
            answers = predict(runtime.place(open_network(artifact)), chunk, runtime)
            values.append(task.by_row(answers, chunk.known).double().mean().item())
        found[role] = {"by_chunk": values, "mean": float(np.average(values, weights=counts))}
        work.progress(done, len(arms), role)
    work.write_json("prequential.json", {"chunks": chunks, "rows": counts, "arms": found})
