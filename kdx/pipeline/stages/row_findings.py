"""What the user should know of the rows of a data set, once they are split: copies, and what looks odd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.data import copies
from kdx.data.near_copies import find_near
from kdx.data.phrases import few
from kdx.data.raw import Raw
from kdx.data.splits import Rows
from kdx.pipeline.stages.split_rows import costly, row_namer
from kdx.store.work import Work


def look(
    work: Work,
    raw: Raw,
    rows: Rows,
    inputs: tuple[Mapping[str, Any], Mapping[str, Any]],
    labels: Mapping[str, np.ndarray],
    duplicates: str,
    left_out: Mapping[str, Sequence[str]],
    *,
    near: bool = False,
) -> dict[str, Any]:
    """Notes what the user should know of the rows, and returns it for data.json. inputs: of the
    splits, as networks read them, and as they were before `Raw.fitted`, by which copies are known. labels: of
    the splits. left_out: names of the copies that were dropped, by part. near: whether rows
    are compared by a perceptual hash too."""
    name = row_namer(raw, rows)
    ordered, told_apart = (
        {part: of[part] for part in ("labelled", "validation", "test", "unlabelled")} for of in inputs
    )
    blank = {part: bare for part, of in told_apart.items() if (bare := raw.blank(of)) is not None}
    same, found = (
        ([], {})
        if costly(raw)
        else copies.find(told_apart, labels, raw.task.get("classes", ()), name, raw.noun, blank)
    )
    if same and duplicates == "error":
        raise UserError(
            "; ".join(text for text, _ in same)
            + ": take the copies out, or set dataset.duplicates=drop, which does, or dataset.duplicates=warn"
        )
    odd, details = raw.look(ordered, name)
    dropped = [
        (f"copies of other {raw.noun}s left out of the {part} part: {len(names):,} ({few(names)})", "info")
        for part, names in left_out.items()
        if names
    ]
    alike, nearly = find_near(told_apart, name) if near else ([], {})
    for text, level in (*raw.notes, *dropped, *same, *alike, *odd):
        work.note(text, level)
    gone = {"dropped": {part: len(names) for part, names in left_out.items()}} if left_out else {}
    return {"duplicates": {**found, **gone, **({"near": nearly} if near else {})}, **details}
