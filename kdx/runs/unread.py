"""unread.csv of a run folder: the files of the data set that could not be read and were skipped
(`dataset.on_error=skip`). No torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdx.data.writing import whole_file
from kdx.report.run.place import UNREAD
from kdx.store.artifact import Artifact

_NAMED = 50
"""So many stand in run.json, and with that in report.md; the file has all."""


def write_unread(data: Artifact, folder: Path) -> dict[str, Any] | None:
    """data: prepared rows. Writes UNREAD into the run folder, a name a row, where files were skipped.

    For run.json: the file, how many there are, and the first of them in order of name; None where all were
    read. Raises UserError where the file cannot be written.
    """
    names = sorted(map(str, data.json("data.json").get("skipped") or ()))
    if not names:
        return None
    with whole_file(UNREAD, folder / UNREAD) as writer:
        writer.write({"name": names})
    return {"file": UNREAD, "count": len(names), "first": names[:_NAMED]}
