"""reveal: a prepared data set whose labelled rows are joined by those of another split, for the controls
`ceiling` (the pool, its hidden labels given back) and `validation_labels` alone. It has no pool, no test
split and, of the second, nothing to validate on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kdx.core.errors import UserError
from kdx.pipeline.stages.arrays import build_task, read_arrays
from kdx.pipeline.stages.derived import Piece, lay_splits, truth_file
from kdx.store.artifact import Artifact
from kdx.store.work import Work
from kdx.training.runtime import Runtime


def run(work: Work, runtime: Runtime, *, data: Artifact, split: str) -> None:
    """split: "unlabelled" or "validation". Files, as those of kdx.pipeline.stages.prepare: labelled.* (the
    labelled rows, then those of the split whose truth is known), validation.* as it was, or without a row
    where these are learned from, data.json."""
    known = np.flatnonzero(build_task(data.json("data.json")).known(read_arrays(data, truth_file(split))))
    if not len(known):
        raise UserError(
            "ceiling=true trains a student on the pool's hidden labels, and nobody knows a label of this "
            "pool: set ceiling=false"
        )
    validation: Sequence[Piece] = (
        [("validation", np.zeros(0, np.int64))] if split == "validation" else [("validation", None)]
    )
    lay_splits(work, data, {"labelled": [("labelled", None), (split, known)], "validation": validation})
