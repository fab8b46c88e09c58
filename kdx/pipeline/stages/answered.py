"""answered: the public rows, of which those that were asked about have a label: the released one, or of a
control the true one, that of the votes without noise, or that of a teacher of all private rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.methods.private_votes import UNANSWERED, count_votes, exact_labels
from kdx.pipeline.stages import EXACT_LABELS, PLAIN_LABELS, PRIVACY, RELEASE, RELEASED_LABELS, TRUE_LABELS
from kdx.pipeline.stages.arrays import TRUTH, need_split, read_arrays
from kdx.pipeline.stages.derived import lay_splits
from kdx.pipeline.stages.files import open_network
from kdx.pipeline.stages.shards import only_rows, votes_of, voting_task
from kdx.store.artifact import Artifact
from kdx.store.work import Work
from kdx.training.runtime import Runtime


def run(
    work: Work,
    runtime: Runtime,
    *,
    data: Artifact,
    source: Artifact,
    labels: str,
    teacher: Artifact | None = None,
) -> None:
    """data: the public rows. labels: "released", the labels of the release `source`; "true", the hidden ones,
    of the rows that it answered, or where it is the votes of all that were asked about; "exact", of the votes
    `source` the class of most; "plain", of all rows that these are about the first choice of `teacher`.

    Files: those of kdx.pipeline.stages.prepare, without a test split; the other rows of the pool stay there.
    """
    task = voting_task(data.json("data.json"))
    asked = np.load(source.file("asked.npy"))
    truth = read_arrays(data, TRUTH)
    if labels == EXACT_LABELS:
        found = exact_labels(count_votes(np.load(source.file("said.npy")), len(task.classes)))
    elif labels == PLAIN_LABELS:
        assert teacher is not None
        pool = need_split(data, "unlabelled", runtime)
        found = votes_of(runtime.place(open_network(teacher)), only_rows(pool, asked), task, runtime)
    elif labels == RELEASED_LABELS or source.stage == RELEASE.name:
        found = np.load(source.file("labels.npy"))
    else:
        found = truth[asked]
    kept = found != UNANSWERED
    if labels == TRUE_LABELS:
        kept &= task.known(truth)[asked]
        found = truth[asked]
        if not kept.any():
            raise UserError(
                "nobody knows a label of the public rows, so there is no control: set baseline=false"
            )
    rows = asked[kept]
    rest = np.setdiff1d(np.arange(data.json("data.json")["counts"]["unlabelled"]), rows)
    more: dict[str, Any] = {PRIVACY: source.json("release.json")} if labels == RELEASED_LABELS else {}
    lay_splits(
        work,
        data,
        {
            "labelled": [("unlabelled", rows)],
            "unlabelled": [("unlabelled", rest)],
            "validation": [("validation", None)],
        },
        **more,
    )
    np.save(work.path / f"labelled.{TRUTH}.npy", found[kept].astype(truth.dtype))
