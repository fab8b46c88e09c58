"""A folder for TensorBoard in which each run has a readable name: links to event files, kept up with the runs
as they come and go.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from kdx.core.errors import UserError
from kdx.core.roles import ROLE_WORDS
from kdx.report.compare.search import run_folders
from kdx.report.run import document
from kdx.report.run.names import Settings, name_runs, settings
from kdx.report.run.place import EVENTS, NETWORKS
from kdx.report.run.tensorboard import THE_RUN, network_folder, network_of_stage
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


@dataclass(frozen=True)
class Known:
    """What a run.json tells. trained: folder of a network's curves -> keys of what was trained for it; empty
    until the run has finished, as more may come.
    """

    settings: Settings
    trained: dict[str, tuple[str, ...]]


NONE = Known(settings(None, None), {})


class Mirror:
    """place/<name>/<event file> -> the event file of a network, for each run below `top`. place: an empty
    folder of one's own.

    A run's student is called by the settings in which the run differs, any other network by what it is and
    the settings that its runs have in common: a training that several runs share is shown once.
    """

    def __init__(self, top: Path, place: Path):
        self.top, self.place = top, place
        self.read: dict[Path, tuple[tuple[int, int], Known]] = {}
        self.resting: dict[str, int] = {}
        self.known: tuple[list[str], list[Known]] = ([], [])
        self.names: list[str] = []
        self.networks: set[str] = set()

    def update(self) -> int:
        """Brings the links up to date and returns the number of runs. A new run may bring a new difference,
        and so new names.

        Raises UserError where links cannot be made."""
        runs = run_folders(self.top, DEPTH)
        wanted = self.wanted(runs)
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

    def wanted(self, runs: Sequence[Path]) -> dict[str, dict[str, Path]]:
        """Name -> the event files, by their names, of each network of the runs."""
        names = self.named(runs)
        alone = len(runs) == 1
        found = {
            ROLE_WORDS[THE_RUN] if alone else name: files_of(run)
            for name, run in zip(names, runs, strict=True)
        }
        shared: dict[tuple, tuple[list[str], dict[str, Path]]] = {}
        for run, name, known in zip(runs, names, self.known[1], strict=True):
            for folder in sorted((run / NETWORKS).glob("*")):
                same = known.trained.get(folder.name) or (str(run),)
                leads_away = folder.is_symlink() or folder.parent.is_symlink()
                if files := {} if leads_away else files_of(folder):
                    shared.setdefault((folder.name, *same), ([], files))[0].append(name)
        self.networks = {network_words(what) for what, *_ in shared}
        for (what, *_), (of, files) in shared.items():
            common = "" if alone else words_in_common(of)
            found[untaken(f"{network_words(what)} {common}".strip(), found)] = files
        return found

    def colours(self) -> str:
        """A regular expression whose groups are alike for names that should have one colour: of one network
        other than the student, or of students that differ in the seed alone.
        """
        networks = "|".join(map(re.escape, sorted(self.networks, reverse=True))) or "(?!)"
        return rf"^(?:({networks})(?: .*)?|(.*?) ?seed=\S+(.*)|(.*))$"

    def named(self, runs: Sequence[Path]) -> list[str]:
        """Names that are names of folders, too, no two alike."""
        folders = [str(run.relative_to(self.top)) if run != self.top else run.resolve().name for run in runs]
        documents = [self.known_of(run / "run.json") for run in runs]
        if (folders, documents) != self.known:
            self.known, self.names = (folders, documents), []
            asked = [known.settings for known in documents]
            for name, folder in zip(name_runs(asked, folders), folders, strict=True):
                plain = [as_folder(words) for words in (name, folder)]
                fits = len(plain[0]) <= _LONGEST and len(plain[0].encode()) <= MOST_BYTES
                short = plain[0] if fits else plain[1].encode()[:MOST_BYTES].decode(errors="ignore")
                self.names.append(untaken(short, self.names))
        return self.names

    def known_of(self, file: Path) -> Known:
        """By a run.json, read again only where it has changed; none where it is not as kdx writes it."""
        try:
            stat = file.stat()
            state = (stat.st_mtime_ns, stat.st_size)
            if self.read.get(file, (None,))[0] != state:
                found = document.read_document(file, figures=False)
                asked = settings(*map(found.get, ("config", "command", "protocol")))
                self.read[file] = (state, Known(asked, trained(found)))
            return self.read[file][1]
        except (OSError, UserError):
            return NONE


def trained(run: dict) -> dict[str, tuple[str, ...]]:
    """Folder of a network's curves -> keys of what was trained for it, of a run that has finished."""
    found: dict[str, tuple[str, ...]] = {}
    for stage in (run.get("stages") or ()) if run.get("status") == "finished" else ():
        folder = network_folder(network_of_stage(stage["name"])[0])
        found[folder] = (*found.get(folder, ()), stage["key"])
    return found


def as_folder(words: str) -> str:
    """The words with an underscore for each sign that does not belong into the name of a folder."""
    return re.sub(r"[^\w =.,()\[\]+:@~-]", "_", words).strip(". ")


def untaken(name: str, taken: Container[str]) -> str:
    """The name, with as many signs behind it as make it one of its own."""
    while name in taken or not name:
        name += "+"
    return name


def network_words(folder: str) -> str:
    """What the network is called whose curves lie in that folder: at most 40 letters."""
    return as_folder(folder.encode(errors="replace").decode()).replace("-", " ")[:40]


def words_in_common(names: Iterable[str]) -> str:
    """Of names made of words, those that all of them have, in the order of the first."""
    of = [name.split(" ") for name in names]
    return " ".join(reduce(lambda kept, more: [word for word in kept if word in more], of))


def files_of(folder: Path) -> dict[str, Path]:
    """name -> absolute path of the event files that lie in a folder itself."""
    return {
        file.name: file.absolute() for file in folder.glob(EVENTS) if file.is_file() and not file.is_symlink()
    }
