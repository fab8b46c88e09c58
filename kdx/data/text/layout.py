"""What lies where in a folder of texts: the part and the class of each file. Opens none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdx.core.errors import UserError, nearest
from kdx.data.column_files import ENDINGS, ending
from kdx.data.phrases import by_kind, counted, few
from kdx.data.pictures.roles import role_of
from kdx.data.pictures.walk import NO_PICTURES, PICTURES, as_text, file_ending, readable
from kdx.data.raw import MEANING

TEXTS = (".txt", ".text")
WITHOUT = ("unsup", "unsupervised", "unlabelled", "unlabeled")
"""What a folder of texts without classes is called beside those of classes: IMDb's train/unsup."""


@dataclass(frozen=True)
class TextFiles:
    """The files of one part, a text each. labels: the number of the class, -1: none. names: class and place
    in it, by which a key knows them.
    """

    paths: Sequence[Path]
    labels: Sequence[int]
    names: Sequence[str]


@dataclass(frozen=True)
class TextFolder:
    """classes in the order of their numbers; parts by name, train always; notes: what the user should
    know."""

    classes: tuple[str, ...]
    parts: Mapping[str, TextFiles]
    notes: tuple[str, ...]


def tables_in(root: Path, layout: str) -> dict[str, Path]:
    """part -> its file of columns, in a folder that holds train.csv, test.csv and the like; {} where it is a
    folder of folders. Raises UserError where files of columns lie there whose names name no part.
    """
    entries = _visible(root)
    found = [root / name for name in entries if ending(Path(name)) and (root / name).is_file()]
    if layout == "classes" or not found or any((root / name).is_dir() for name in entries):
        return {}
    stems = {path.name.partition(".")[0]: path for path in found}
    if len(found) == 1:
        return {"train": found[0]}
    roles = role_of(stems)
    pools = {name: "unlabelled" for name in stems if name.lower() in WITHOUT}
    parts: dict[str, Path] = {}
    for name, role in {**roles, **pools}.items():
        if role in parts:
            raise UserError(
                f"'{readable(root)}' holds {parts[role].name} and {stems[name].name}, both {MEANING[role]}: "
                "name one of them with dataset.root=FILE, or move one away"
            )
        parts[role] = stems[name]
    if "train" not in parts:
        raise UserError(
            f"'{readable(root)}' holds {few([path.name for path in found])}, and none is called train: name "
            "the one to train with, dataset.root=FILE"
        )
    return parts


def lay_out_texts(root: Path, layout: str) -> TextFolder:
    """root: a folder that exists. layout: "auto"; "parts": it holds train/ and maybe val/ and test/;
    "classes": every folder in it is a class. Raises UserError where it cannot be known, or holds no texts.
    """
    notes: list[str] = []
    folders = _parts(root, layout)
    beside = {name: path for name, path in _folders(root).items() if name.lower() in WITHOUT}
    inside = _folders(folders["train"])
    pools = {**(beside if folders["train"] != root else {})}
    pools |= {name: path for name, path in inside.items() if name.lower() in WITHOUT and layout != "classes"}
    classes = tuple(name for name in inside if inside[name] not in pools.values())
    if len(classes) < 2:
        raise UserError(_too_few(folders["train"], classes))
    parts = {}
    for part, folder in folders.items():
        found = {name: path for name, path in _folders(folder).items() if path not in pools.values()}
        parts[part] = _listed(found, classes, folder, notes)
        if not parts[part].paths:
            raise UserError(f"'{readable(folder)}' holds no text {MEANING[part]}: {_what_it_holds(folder)}")
    if pools:
        texts = [
            (path, f"{name}/{inner}")
            for name, folder in pools.items()
            for path, inner in texts_below(folder, [])
        ]
        parts["unlabelled"] = TextFiles(
            [path for path, _ in texts], [-1] * len(texts), [name for _, name in texts]
        )
        names = " and ".join(f"{name}/" for name in pools)
        notes.append(f"{len(texts):,} texts in {names} have no class, and are the pool")
    return TextFolder(classes, parts, tuple(notes))


def pool_in(folder: Path) -> TextFiles:
    """Every text in a folder, nested as it may be. Raises UserError where there is none."""
    found = texts_below(folder, [])
    if not found:
        raise UserError(
            f"the folder of unlabelled texts '{readable(folder)}' holds none: {_what_it_holds(folder)}"
        )
    return TextFiles([path for path, _ in found], [-1] * len(found), [name for _, name in found])


def _parts(root: Path, layout: str) -> dict[str, Path]:
    """part -> its folder of classes; the root is what is trained with where there are no parts."""
    folders = _folders(root)
    roles = role_of(folders) if layout != "classes" else {}
    if layout != "parts" and not any(_folders(folders[name]) for name in roles):
        return {"train": root}
    found: dict[str, Path] = {}
    for name, role in roles.items():
        if role in found:
            raise UserError(
                f"'{readable(root)}' holds {found[role].name}/ and {name}/, both {MEANING[role]}: rename "
                "one, move it away, or set dataset.layout=classes if these are the classes"
            )
        found[role] = folders[name]
    if "train" not in found:
        looks = " and ".join(f"{name}/" for name in roles) or "no folder of a part"
        raise UserError(
            f"'{readable(root)}' holds {looks}, and no train/: rename the part to train with, or set "
            "dataset.layout=classes if these are the classes"
        )
    return found


def _listed(found: Mapping[str, Path], classes: Sequence[str], folder: Path, notes: list[str]) -> TextFiles:
    paths: list[Path] = []
    labels: list[int] = []
    names: list[str] = []
    others: list[str] = []
    for name, where in found.items():
        texts = texts_below(where, further := [])
        others += [f"{name}/{place}" for place in further]
        if texts and name not in classes:
            raise UserError(
                f"'{readable(where)}' holds texts of a class that the part to train with does not have"
                f"{nearest(name, classes)}"
            )
        paths += [path for path, _ in texts]
        labels += [classes.index(name)] * len(texts) if texts else []
        names += [f"{name}/{inner}" for _, inner in texts]
    if others:
        notes.append(
            f"left out: {counted(len(others), 'file')} in the classes of '{readable(folder)}' whose names do "
            f"not end with {' or '.join(TEXTS)}: {by_kind(others)}"
        )
    return TextFiles(paths, labels, names)


def texts_below(folder: Path, others: list[str]) -> list[tuple[Path, str]]:
    """(path, place in the folder) of each text in it, links followed, each folder once; names of other files
    are added to `others`.
    """
    found, entered = [], set()
    for here, folders, files in os.walk(folder, followlinks=True, onerror=_stop):
        real = os.path.realpath(here)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if _seen(name))
        for name in sorted(filter(_seen, files)):
            path = Path(here, name)
            place = as_text(path.relative_to(folder).as_posix())
            if path.suffix.lower() in TEXTS:
                found.append((path, place))
            else:
                others.append(place)
    return found


def _stop(error: OSError) -> None:
    raise UserError(
        f"the folder '{readable(error.filename)}' cannot be read: {error.strerror}; give yourself "
        "permission, or move it away"
    ) from error


def _seen(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in NO_PICTURES


def _visible(folder: Path) -> list[str]:
    try:
        return sorted(filter(_seen, os.listdir(folder)))
    except OSError as error:
        _stop(error)
        return []


def _folders(folder: Path) -> dict[str, Path]:
    """name -> path, in order of name."""
    return {as_text(name): folder / name for name in _visible(folder) if os.path.isdir(folder / name)}


def _too_few(folder: Path, classes: Sequence[str]) -> str:
    holds = f"one folder, {classes[0]}/" if classes else "no folders"
    return (
        f"'{readable(folder)}' holds {holds}, and dataset=text needs a folder of {TEXTS[0]} files for each "
        f"of two classes or more, or a file of columns ({', '.join(ENDINGS)}): {_what_it_holds(folder)}"
    )


def _what_it_holds(folder: Path) -> str:
    """What lies there instead, and what to do."""
    others: list[str] = []
    found = texts_below(folder, others)
    pictures = [name for name in others if file_ending(name) in PICTURES]
    tables = [name for name in others if ending(Path(name))]
    if pictures:
        return f"there are pictures ({few(pictures)}), which dataset=folder reads"
    if tables:
        return f"there is {tables[0]}: dataset.root={readable(folder / tables[0])} reads that"
    if found:
        return f"sort its texts ({few([name for _, name in found])}) into such folders"
    return f"there is {few(others)}" if others else "it is empty"
