"""The files of a run that are published: without rows of the data, unless these are asked for. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdx.core.documents import dump
from kdx.core.files import write_atomically
from kdx.report.run.drawn import PICTURED
from kdx.report.run.place import file_name
from kdx.report.run.webpage import REPORTS, reports

_LOCAL = ("store", "host", "traceback", "predictions", "unread")
"""What a run.json says of this machine, and of files that stay here."""


def without_rows(document: Mapping[str, Any]) -> dict[str, Any]:
    """A run.json without what names or shows single rows of the data, and without what is this machine's."""
    found = {key: value for key, value in document.items() if key not in _LOCAL}
    if isinstance(results := found.get("results"), Mapping):
        found["results"] = {key: value for key, value in results.items() if key != "worst"}
    if isinstance(audit := found.get("audit"), Mapping):
        rounds = [{k: v for k, v in one.items() if k != "worst"} for one in audit.get("rounds") or []]
        found["audit"] = {**audit, "rounds": rounds}
    return found


def lay_files(run: Path, document: Mapping[str, Any], to: Path, *, examples: bool) -> None:
    """Writes run.json, both reports and figures/ of the run folder `run` into `to`. examples: with what
    shows rows of the data: pictures or texts of them, and the worst ones in the report."""
    pictures = {path.name: path for path in sorted((run / "figures").glob("*.png")) if _own(run, path)}
    if not examples:
        pictures.pop(f"{file_name(PICTURED)}.png", None)
    if pictures:
        (to / "figures").mkdir()
    for name, path in pictures.items():
        (to / "figures" / name).write_bytes(path.read_bytes())
    whole = [run / name for name in REPORTS if _own(run, run / name)]
    if examples and run / REPORTS[0] in whole:
        for file in whole:
            write_atomically(to / file.name, file.read_bytes())
        write_atomically(to / "run.json", dump(document))
        return
    told = without_rows(document)
    shown = {name.removesuffix(".png").replace("-", " "): f"figures/{name}" for name in pictures}
    for name, text in reports(told, to, shown, {}, called=run.name).items():
        write_atomically(to / name, text)
    write_atomically(to / "run.json", dump(told))


def _own(run: Path, path: Path) -> bool:
    """Whether it is a file of the run folder itself: a link in a folder from somebody else may lead to
    anything on this machine."""
    return path.is_file() and not any(there.is_symlink() for there in (path, path.parent) if there != run)
