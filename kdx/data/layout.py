"""What lies where in a folder of pictures: which part is trained, validated and tested with, which class a picture has. Opens no picture."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kdx.faults import Fault

NO_PICTURES = ("thumbs.db", "desktop.ini")
"""What Windows leaves in folders of pictures, beside the hidden files of other systems."""
A_VALIDATION_PART = ("val", "valid", "validation")


@dataclass(frozen=True)
class Listing:
    """The pictures of one part: paths, and the class of each (-1: none)."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Classes in the order of their numbers, and the pictures of each part; None where there is no such part."""

    classes: tuple[str, ...]
    train: Listing
    test: Listing | None
    pool: Listing | None

    @property
    def parts(self) -> dict[str, Listing]:
        """Those that are there, by name."""
        return {name: part for name in ("train", "test", "pool") if (part := getattr(self, name)) is not None}


def lay_out(root: Path, unlabelled: Path | None) -> Layout:
    """root and unlabelled: folders that exist. Raises Fault where they cannot be a data set."""
    train_folder, test_folder = parts_of(root)
    classes, train = _list(train_folder, unlabelled)
    test = pool = None
    if test_folder:
        test_classes, test = _list(test_folder, unlabelled)
        if test_classes != classes:
            odd = sorted(set(classes) ^ set(test_classes))
            raise Fault(f"'{train_folder}' and '{test_folder}' must hold the same classes; only one of them has: {', '.join(odd)}")
    if unlabelled:
        pictures = _pictures(unlabelled)
        if not pictures:
            raise Fault(f"the folder of unlabelled pictures '{unlabelled}' holds no picture")
        pool = Listing(tuple(pictures), (-1,) * len(pictures))
    return Layout(classes, train, test, pool)


def parts_of(root: Path) -> tuple[Path, Path | None]:
    """The folders of classes to train and to test with."""
    train, test = root / "train", root / "test"
    if not train.is_dir() or not _folders(train):
        return root, None
    if test.is_dir():
        return train, test
    for name in A_VALIDATION_PART:
        if (root / name).is_dir():
            raise Fault(
                f"'{root}' holds train/ and {name}/ but no test/: rename {name}/ to test/, or move it away to have a share of train/ held out"
            )
    return train, None


def _list(folder: Path, unlabelled: Path | None) -> tuple[tuple[str, ...], Listing]:
    """The classes in one folder, in order of their names, and their pictures."""
    inside = None if unlabelled is None else unlabelled.resolve()
    folders = [path for path in _folders(folder) if path.resolve() != inside]
    if len(folders) < 2:
        found = f"it holds only '{folders[0].name}'" if folders else "it holds no folders"
        raise Fault(f"'{folder}' must hold one folder of pictures for each class, and two or more of them; {found}")
    paths, labels = [], []
    for k, path in enumerate(folders):
        pictures = _pictures(path)
        if not pictures:
            raise Fault(f"the class folder '{path}' holds no picture: add some, or remove the folder")
        paths += pictures
        labels += [k] * len(pictures)
    return tuple(path.name for path in folders), Listing(tuple(paths), tuple(labels))


def _visible(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith(".") and name.lower() not in NO_PICTURES)


def _folders(folder: Path) -> list[Path]:
    return [folder / name for name in _visible(os.listdir(folder)) if (folder / name).is_dir()]


def _pictures(folder: Path) -> list[Path]:
    """Every file below, in order of name; links are followed, and each folder is entered once."""
    found, entered = [], set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        folders[:] = _visible(folders) if real not in entered else []
        if real not in entered:
            found += [Path(here, name) for name in _visible(files)]
        entered.add(real)
    return found
