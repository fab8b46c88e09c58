"""A folder for TensorBoard in which each run has a readable name: links to event files, kept up with the runs as they come and go."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdx.report.names import names
from kdx.report.plain import writing

DEPTH = 4
"""Levels below a folder at which a run may lie: outputs/runs/reproduce/<claim>/<arm and seed>."""
LARGEST = 64_000_000
"""Bytes of a run.json that is read for its name; the run is shown all the same."""
LONGEST = 100
"""Letters of a name; runs with more in which they differ are called by their folders."""
REST = 2
"""Rounds of `update` that a run begun anew is taken away for, so that TensorBoard forgets what it has read of it."""


def find(top: Path) -> list[Path]:
    """Run folders at `top` or below it, by path. Links are not followed, a store is not searched."""
    found = []
    for folder, below, files in os.walk(top):
        here = Path(folder)
        if "run.json" in files:
            found.append(here)
        if "run.json" in files or "locks" in below or len(here.relative_to(top).parts) >= DEPTH:
            below.clear()
    return sorted(found)


class Mirror:
    """place/<name of a run>/<event file> -> the run's event file, for each run below `top`. place: an empty folder of one's own."""

    def __init__(self, top: Path, place: Path):
        self.top, self.place = top, place
        self.read: dict[Path, tuple[tuple[int, int], Mapping[str, Any]]] = {}
        self.resting: dict[str, int] = {}
        self.known: tuple[list[str], list[Mapping[str, Any]]] = ([], [])
        self.names: list[str] = []

    def update(self) -> int:
        """Brings the links up to date and returns the number of runs. A new run may bring a new difference, and so new names.

        Raises Fault where links cannot be made."""
        runs = find(self.top)
        wanted = dict(zip(self.named(runs), (event_files(run) for run in runs), strict=True))
        self.resting = {name: rounds - 1 for name, rounds in self.resting.items() if rounds > 1}
        with writing(self.place):
            for folder in list(self.place.iterdir()):
                files = wanted.get(folder.name, {})
                if any(Path(os.readlink(link)) != files.get(link.name) for link in folder.iterdir()):
                    shutil.rmtree(folder)
                    if folder.name in wanted:
                        self.resting[folder.name] = REST
            for name, files in wanted.items():
                if files and name not in self.resting:
                    (self.place / name).mkdir(exist_ok=True)
                    for file, target in files.items():
                        if not (self.place / name / file).is_symlink():
                            (self.place / name / file).symlink_to(target)
        return len(runs)

    def named(self, runs: Sequence[Path]) -> list[str]:
        """Names that are names of folders, too, no two alike."""
        folders = [str(run.relative_to(self.top)) if run != self.top else run.resolve().name for run in runs]
        documents = [self.document(run / "run.json") for run in runs]
        if (folders, documents) != self.known:
            self.known, self.names = (folders, documents), []
            for name, folder in zip(names(documents, folders), folders, strict=True):
                plain = [re.sub(r"[^\w =.,()\[\]+:@~-]", "_", words).strip(". ") for words in (name, folder)]
                short = plain[0] if len(plain[0]) <= LONGEST else plain[1]
                while short in self.names or not short:
                    short += "+"
                self.names.append(short)
        return self.names

    def document(self, file: Path) -> Mapping[str, Any]:
        """A run.json, read again only where it has changed; {} where it cannot be read or is no run.json."""
        try:
            stat = file.stat()
            state = (stat.st_mtime_ns, stat.st_size)
            if self.read.get(file, (None,))[0] != state:
                found = json.loads(file.read_text(encoding="utf-8")) if stat.st_size <= LARGEST else {}
                kept = {key: found.get(key) for key in ("config", "command")} if isinstance(found, dict) else {}
                self.read[file] = (state, kept)
            return self.read[file][1]
        except (OSError, ValueError, RecursionError):
            return {}


def event_files(run: Path) -> dict[str, Path]:
    """name -> absolute path of the event files that lie in a run folder itself."""
    return {file.name: file.absolute() for file in run.glob("events.out.tfevents.*") if file.is_file() and not file.is_symlink()}
