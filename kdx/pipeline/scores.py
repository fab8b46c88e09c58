"""What documents of data and trainings say of the task, today and in older runs. No torch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

from kdx.core.metric import Metric
from kdx.store.artifact import Artifact
from kdx.store.declared import declared
from kdx.store.moved import ARRAYS
from kdx.tasks.kept import place_bytes
from kdx.tasks.shown import counting_metric


def metric_of(data: Artifact) -> Metric:
    """What counts on a prepared data set, as its data.json says; one of before says nothing."""
    return counting_metric({"metric": data.json("data.json").get("metric")})


def averages(data: Artifact) -> bool:
    """Whether networks of the task of a prepared data set answer together, by their mean; it is not made."""
    task = data.json("data.json").get("task") or {}
    return bool(declared(task["_target_"], "averages", True)) if task else True


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
