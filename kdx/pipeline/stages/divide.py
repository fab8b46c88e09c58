"""divide: the public or the private rows of a prepared data set, alone, for the recipe `private`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kdx.pipeline.stages.arrays import DECODED
from kdx.pipeline.stages.derived import Piece, lay_splits
from kdx.pipeline.stages.files import MODEL_KEYS
from kdx.store.artifact import Artifact
from kdx.store.work import Work
from kdx.training.runtime import Runtime

_NONE = np.zeros(0, np.int64)
_SIDES: Mapping[str, Mapping[str, Sequence[Piece]]] = {
    "public": {
        "labelled": [("labelled", _NONE)],
        "unlabelled": [("unlabelled", None)],
        "validation": [("validation", None)],
    },
    "private": {"labelled": [("labelled", None)], "validation": [("validation", None)]},
}
_KEPT = (*MODEL_KEYS, DECODED, "counts", "hidden", "strata", "answer_bytes", "distributions", "columns")
"""Of a data.json: what was found odd of all rows is said of none."""


def run(work: Work, runtime: Runtime, *, data: Artifact, side: str) -> None:
    """side: "public", the pool and validation, or "private", the labelled rows, with validation, by which
    comparisons are measured. Files: those of
    kdx.pipeline.stages.prepare, of these rows."""
    about = lay_splits(work, data, _SIDES[side])
    work.write_json("data.json", {key: value for key, value in about.items() if key in _KEPT})
