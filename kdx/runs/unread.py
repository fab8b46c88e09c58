"""unread.csv of a run folder: the files of the data set that could not be read and were skipped
(`dataset.on_error=skip`). No torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdx.data.raw import skip_reasons
from kdx.data.writing import whole_file
from kdx.report.run.place import UNREAD
from kdx.store.artifact import Artifact

_NAMED = 50
"""So many stand in run.json, and with that in report.md; the file has all."""


def write_unread(data: Artifact, folder: Path) -> dict[str, Any] | None:
    """data: prepared rows. Writes UNREAD into the run folder, a file a row with its name and the
    reason, where some were skipped; an artifact of an older version knows no reasons.

    For run.json: the file, how many there are, the first of them in order of name, and the reason of each of
    these; None where all were read. Raises UserError where the file cannot be written.
    """
    reasons = skip_reasons(data.json("data.json").get("skipped") or {})
    if not reasons:
        return None
    with whole_file(UNREAD, folder / UNREAD) as writer:
        writer.write({"name": list(reasons), "reason": list(reasons.values())})
    first = list(reasons)[:_NAMED]
    return {
        "file": UNREAD,
        "count": len(reasons),
        "first": first,
        "reasons": [reasons[name] for name in first],
    }
