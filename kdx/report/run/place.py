"""What of a folder belongs to a run: checked before it is written, cleared, linked, taken back."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from kdx.core.files import appendable, kind_at, own_file, own_folder
from kdx.report.run.document import LOCK
from kdx.report.run.written import writing

_WHO = "the run"
EVENTS = "events.out.tfevents.*"
NETWORKS = "curves"
"""The folder with the event files of a run's networks other than its student, a folder each."""
PREDICTIONS = "predictions.csv"
"""What each network answered to each row: kdx.runs.row_predictions writes it."""
UNREAD = "unread.csv"
"""Files of the data set that could not be read: kdx.runs.unread writes it."""


def check_place(folder: Path) -> None:
    """Raises UserError where a link, a pipe or the like is in the place of something that is written: the
    folder may have come from somebody else.
    """
    for name in ("run.json", "report.md", "report.html", PREDICTIONS, UNREAD):
        own_file(folder / name, _WHO)
    for name in ("metrics.jsonl", "train.log"):
        appendable(folder / name, _WHO)
    inner = [place for place in folder.glob(f"{NETWORKS}/*") if kind_at(place) != "a file"]
    for place in (*(folder / name for name in ("figures", "artifacts", NETWORKS)), *inner):
        if kind_at(place) is not None:
            own_folder(place, _WHO)
    for spot in (*(folder / "figures").glob("*"), *event_files(folder)):
        own_file(spot, _WHO)


def event_files(folder: Path) -> list[Path]:
    """What TensorBoard reads of a run: its own file, and one of each other network."""
    return [*folder.glob(EVENTS), *folder.glob(f"{NETWORKS}/*/{EVENTS}")]


def clear_place(folder: Path) -> None:
    """Removes what an earlier run wrote here, and nothing else: a second event file would show each curve
    twice.
    """
    if not (folder / "run.json").exists():
        return
    links = [old for old in folder.glob("artifacts/*") if old.is_symlink() or old.is_file()]
    for old in [
        *event_files(folder),
        *folder.glob("figures/*.png"),
        *links,
        folder / "report.md",
        folder / "report.html",
        folder / PREDICTIONS,
        folder / UNREAD,
    ]:
        old.unlink(missing_ok=True)
    for place in (*folder.glob(f"{NETWORKS}/*"), folder / NETWORKS):
        with suppress(OSError):  # of somebody else's, where it is not empty
            place.rmdir()


def take_back(folder: Path) -> None:
    """Removes a run that never began: its files, the log that was opened for it, and the folder if nothing
    else is in it. Never raises.
    """
    with suppress(Exception):
        clear_place(folder)
        for name in ("run.json", "metrics.jsonl", "train.log", LOCK):
            (folder / name).unlink(missing_ok=True)
        for place in (folder / "figures", folder / "artifacts", folder, folder.parent):
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()


def link_artifact(folder: Path, name: str, target: Path | str) -> str:
    """artifacts/<name> points to `target`, relatively; a text file with the path stands in where links are
    not allowed. Returns its path, relative to the folder.
    """
    spot = folder / "artifacts" / file_name(name)
    with writing(spot):
        spot.parent.mkdir(exist_ok=True)
        spot.unlink(missing_ok=True)
        relative = os.path.relpath(Path(target).resolve(), spot.parent.resolve())
        try:
            spot.symlink_to(relative, target_is_directory=True)
        except OSError:
            spot.write_text(relative + "\n", encoding="utf-8")
    return f"artifacts/{spot.name}"


def file_name(name: str) -> str:
    """A name as that of a file."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)
