"""The files that a data set reads, by the part that they belong to. Standard library only."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from kdx.core.files import write_atomically

PLACES = ".places.json"
"""Where files lie now; hidden, so no part of what was published."""


class Files(dict[str, list[tuple[str, Path]]]):
    """Part -> (name, path) of each picture that is read. notes: what there is to tell, with its level, of
    where they lie and what lies beside them.

    No key holds that, so every run tells it anew, and it is kept with no artifact, which serves other folders
    of the same pictures too.
    """

    def __init__(self, parts: Mapping[str, list[tuple[str, Path]]], notes: Iterable[tuple[str, str]] = ()):
        super().__init__(parts)
        self.notes = tuple(notes)


def note_places(folder: Path, places: Mapping[str, str]) -> None:
    """Where the files of a data set lie now whose rows stay in them: it is known by their content, and may
    have been moved. places: key of the data set -> path. Written where this user may."""
    file = folder / PLACES
    text = json.dumps(dict(places), indent=1)
    with contextlib.suppress(OSError):
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            write_atomically(file, text)


def names_apart(names: Mapping[str, Sequence[str]], before: Mapping[str, str]) -> dict[str, list[str]]:
    """part -> what its files are called: their names, behind what `before` says of their part where two parts
    have a name in common.
    """
    each = [name for known in names.values() for name in set(known)]
    unique = len(each) == len(set(each))
    return {
        part: [name if unique else str(PurePosixPath(before[part], name)) for name in known]
        for part, known in names.items()
    }
