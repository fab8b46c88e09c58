"""The files that a data set reads, by the part that they belong to. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path


class Files(dict[str, list[tuple[str, Path]]]):
    """Part -> (name, path) of each picture that is read. notes: what there is to tell, with its level, of
    where they lie and what lies beside them.

    No key holds that, so every run tells it anew, and it is kept with no artifact, which serves other folders
    of the same pictures too.
    """

    def __init__(self, parts: Mapping[str, list[tuple[str, Path]]], notes: Iterable[tuple[str, str]] = ()):
        super().__init__(parts)
        self.notes = tuple(notes)
