"""A folder for TensorBoard in which each run has a readable name: links to event files, kept up with the runs
as they come and go.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from kdx.core.errors import UserError
from kdx.report.compare.search import run_folders
from kdx.report.run import document
from kdx.report.run.names import Settings, name_runs, settings
from kdx.report.run.written import writing

DEPTH = 4
"""Levels below a folder at which a run may lie: outputs/runs/reproduce/<claim>/<arm and seed>."""
_LONGEST, MOST_BYTES = 100, 200
"""Of a name, in letters and as a file system counts it (which takes 255): runs with more in which they differ
are called by their folders.
"""
REST = 2
"""Rounds of `update` that a run begun anew is taken away for, so that TensorBoard forgets what it has read of
it.
"""
NONE = settings(None, None)


class Mirror:
    """place/<name of a run>/<event file> -> the run's event file, for each run below `top`. place: an empty
    folder of one's own.
    """

    def __init__(self, top: Path, place: Path):
        self.top, self.place = top, place
        self.read: dict[Path, tuple[tuple[int, int], Settings]] = {}
        self.resting: dict[str, int] = {}
        self.known: tuple[list[str], list[Settings]] = ([], [])
        self.names: list[str] = []

    def update(self) -> int:
        """Brings the links up to date and returns the number of runs. A new run may bring a new difference,
        and so new names.

        Raises UserError where links cannot be made."""
        runs = run_folders(self.top, DEPTH)
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
        asked = [self.settings(run / "run.json") for run in runs]
        if (folders, asked) != self.known:
            self.known, self.names = (folders, asked), []
            for name, folder in zip(name_runs(asked, folders), folders, strict=True):
                plain = [re.sub(r"[^\w =.,()\[\]+:@~-]", "_", words).strip(". ") for words in (name, folder)]
                fits = len(plain[0]) <= _LONGEST and len(plain[0].encode()) <= MOST_BYTES
                short = plain[0] if fits else plain[1].encode()[:MOST_BYTES].decode(errors="ignore")
                while short in self.names or not short:
                    short += "+"
                self.names.append(short)
        return self.names

    def settings(self, file: Path) -> Settings:
        """Of a run.json, read again only where it has changed; none where it is not as kdx writes it."""
        try:
            stat = file.stat()
            state = (stat.st_mtime_ns, stat.st_size)
            if self.read.get(file, (None,))[0] != state:
                found = document.read_document(file, figures=False)
                self.read[file] = (state, settings(*map(found.get, ("config", "command", "protocol"))))
            return self.read[file][1]
        except (OSError, UserError):
            return NONE


def event_files(run: Path) -> dict[str, Path]:
    """name -> absolute path of the event files that lie in a run folder itself."""
    return {
        file.name: file.absolute()
        for file in run.glob("events.out.tfevents.*")
        if file.is_file() and not file.is_symlink()
    }
