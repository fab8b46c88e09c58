"""The classes of one part of a folder of pictures, and the pictures in them. Opens no picture."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdx.core.errors import UserError, nearest
from kdx.data.pictures.walk import Walk, as_text, file_ending, inside, name_of, readable


@dataclass(frozen=True)
class Listing:
    """The pictures of one part: paths; the class of each (-1: none); its name, class and place in it, by
    which a key knows it: `cat/a.png`.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    names: tuple[str, ...]

    def only(self, rows: Sequence[int]) -> Listing:
        return Listing(*(tuple(column[i] for i in rows) for column in (self.paths, self.labels, self.names)))


def classes_in(folder: Path, walk: Walk) -> dict[str, list[Path]]:
    """class -> its folders, in order of name; two where a system wrote an accent in two ways."""
    found: dict[str, list[Path]] = {}
    for path in walk.folders(folder):
        found.setdefault(name_of(path), []).append(path)
    note_loose(folder, walk)
    return dict(sorted(found.items()))


def note_alike(classes: Iterable[str], walk: Walk) -> None:
    """Cat and cat, hot_dog and hot dog: two classes that somebody may have meant for one."""
    called: dict[str, list[str]] = {}
    for name in classes:
        called.setdefault(re.sub(r"[\s_-]+", " ", name.casefold()).strip(), []).append(name)
    for names in called.values():
        if len(names) > 1:
            walk.note(
                f"classes whose names differ in capitals or spaces only, and are {len(names)} classes: "
                f"{', '.join(map(repr, names))}"
            )


def note_loose(folder: Path, walk: Walk) -> None:
    if loose := [name for name in walk.files(folder) if file_ending(name) in walk.sought.meant]:
        walk.note(
            f"{walk.noun}s in '{readable(folder)}' itself are in no class and not read: {len(loose)}, the "
            f"first {as_text(loose[0])}"
        )


def list_pictures(found: Mapping[str, Sequence[Path]], classes: Sequence[str], walk: Walk) -> Listing:
    paths, labels, names = [], [], []
    for name, folders in found.items():
        pictures = [(path, folder) for folder in folders for path in walk.pictures(folder)]
        if pictures and name not in classes:
            raise UserError(
                f"'{readable(folders[0])}' holds {walk.noun}s of a class that the part to train with does "
                f"not have{nearest(name, classes)}"
            )
        paths += [path for path, _ in pictures]
        labels += [classes.index(name)] * len(pictures) if pictures else []
        names += [f"{name}/{inside(path, folder)}" for path, folder in pictures]
    return Listing(tuple(paths), tuple(labels), tuple(names))
