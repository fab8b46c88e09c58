"""What documents of data and trainings say of the task, today and in older runs. No torch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from kdx.core.metric import Metric
from kdx.store.artifact import Artifact
from kdx.store.declared import declared
from kdx.store.moved import ARRAYS
from kdx.tasks.kept import place_bytes
from kdx.tasks.shown import counting_metric

SPLITS_MEASURED = {"train": "labelled", "validation": "validation", "test": "test"}
"""What results call the rows that networks are measured on -> the split that they are of."""
_TRAIN_ROWS = 2000


def rows_measured(counts: Mapping[str, int], without: Sequence[str] = ()) -> dict[str, int]:
    """name in SPLITS_MEASURED -> of how many of its rows a network is asked, by the rows of each split of the
    data: of the labelled ones no more than test has, or 2,000 where that has fewer, as what they show is only
    how far a network has learned them by heart. without: names that are left out."""
    found = {name: counts.get(split, 0) for name, split in SPLITS_MEASURED.items()}
    found["train"] = min(found["train"], max(_TRAIN_ROWS, found["test"]))
    return {name: rows for name, rows in found.items() if name not in without}


def metric_of(data: Artifact) -> Metric:
    """What counts on a prepared data set, as its data.json says; one of before says nothing."""
    return counting_metric({"metric": data.json("data.json").get("metric")})


def averages(data: Artifact) -> bool:
    """Whether networks of the task of a prepared data set answer together, by their mean; it is not made."""
    return _says(data.json("data.json"), "averages", True)


def answers_alike(about: Mapping[str, Any]) -> bool:
    """Whether all networks of a task answer in arrays of the same form. about: a data.json."""
    return not _says(about, "several_forms", False)


def answers_beside(about: Mapping[str, Any]) -> bool:
    """Whether what is kept of answers tells how they differ from the teacher's. about: a data.json."""
    return _says(about, "beside", False)


def _says(about: Mapping[str, Any], name: str, default: bool) -> bool:
    """A class attribute of the task, which is not made; older data sets are of classes and name none."""
    task = about.get("task") or {}
    return bool(declared(task["_target_"], name, default)) if task else default


def score_of(document: Mapping[str, Any]) -> float | None:
    """The value of that metric on validation, of a summary.json or an answers.json; older ones call it by
    the name of theirs. None where there is no such split, or nobody looked.
    """
    found: float | None = document.get("validation_score", document.get("validation_accuracy"))
    return found


def answer_bytes(about: Mapping[str, Any], form: Mapping[str, Any] | None = None) -> int:
    """Of one stored answer, at most. about: a data.json; older ones are of classes, with two bytes for each.
    form: what is kept of it, see `kdx.pipeline.recipes.asking.answer_form`."""
    found: int = about.get("answer_bytes") or 2 * len(about["classes"])
    if form is None or "distributions" not in about:
        return found
    places: int = about["distributions"]["places"]
    return places * place_bytes(about["distributions"]["width"], form)


def predicted_bytes(about: Mapping[str, Any], models: Artifact | Sequence[Artifact]) -> int:
    """Of what the stage `predict` keeps, at most: in full precision, with last weights and with best ones, of
    an ensemble and of each member. about: a data.json; models: what is asked."""
    networks = 1 if isinstance(models, Artifact) else 1 + len(models)
    return 2 * networks * sum(rows_measured(about["counts"]).values()) * 2 * answer_bytes(about)


def row_bytes(about: Mapping[str, Any]) -> int:
    """Of one row's inputs. about: a data.json; older ones are of bytes of one shape."""
    import numpy as np  # late: what lies in the store is found without

    example: Mapping[str, Any] = about.get("example") or {"": (about["shape"], "uint8")}
    return sum(math.prod(shape) * np.dtype(kind).itemsize for shape, kind in example.values())


def digests_of(files: Mapping[str, Any]) -> dict[str, str]:
    """split -> what its inputs and truth hold, as one digest, of the SHA-256 of files by name, or of those of
    a manifest. At another number of labels the test split is the same and the key is not; and it is reported
    from run.json alone, where the store is gone."""
    found: dict[str, str] = {}
    for split in ("labelled", "unlabelled", "validation", "test"):
        hashes = [
            files[name] if isinstance(files[name], str) else files[name]["sha256"]
            for name in sorted(files)
            if name.startswith(tuple(f"{split}.{what}" for what in (*ARRAYS, *ARRAYS.values())))
        ]
        if hashes:
            found[split] = hashlib.sha256(" ".join(hashes).encode()).hexdigest()
    return found
