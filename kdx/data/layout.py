"""What lies where in a folder of pictures: which part is trained, validated and tested with, which class a picture has. Opens no picture."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdx.data.walk import PICTURES, Walk, as_text, ending, inside, name_of, readable
from kdx.faults import Fault, nearest

ROLES = {
    "train": ("train", "training", "trn"),
    "validation": ("val", "valid", "validation", "validate", "dev", "devel", "development"),
    "test": ("test", "testing", "tst"),
}
MEANING = {"train": "to train with", "validation": "to validate with", "test": "to test with"}
UNCLEAR = ("eval", "evaluation", "holdout", "heldout")
FILLERS = {"set", "data", "dataset", "images", "image", "img", "imgs", "pictures", "pics", "photos", "split", "folder", "files", "part", "samples", "examples",
           "seg"}  # fmt: skip
"""Words that say nothing of a part: seg_train, training_set, train images."""


@dataclass(frozen=True)
class Listing:
    """The pictures of one part: paths; the class of each (-1: none); its name, class and place in it, by which a key knows it: `cat/a.png`."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    names: tuple[str, ...]

    def only(self, rows: Sequence[int]) -> Listing:
        return Listing(*(tuple(column[i] for i in rows) for column in (self.paths, self.labels, self.names)))


@dataclass(frozen=True)
class Layout:
    """Classes in the order of their numbers, the pictures of each part that is there, and what is to be told of what was left out.

    parts: by name, of train, validation, test and unlabelled; train always. A class may have no picture in any of them.
    """

    classes: tuple[str, ...]
    parts: Mapping[str, Listing]
    notes: tuple[str, ...]


def lay_out(root: Path, unlabelled: Path | None, layout: str) -> Layout:
    """root, unlabelled: folders that exist. layout: "auto", or "classes": every folder in root is a class. Raises Fault where it cannot be told."""
    if unlabelled and root.resolve().is_relative_to(unlabelled.resolve()):
        raise Fault(f"dataset.unlabelled_root='{readable(unlabelled)}' holds dataset.root='{readable(root)}', so the pictures to train and test with "
                    "would be in the pool: give the pool a folder of its own")  # fmt: skip
    walk = Walk(unlabelled)
    try:
        return _lay_out(root, unlabelled, layout, walk)
    except OSError as error:
        raise Fault(f"'{readable(error.filename or root)}' cannot be read: {error.strerror or error}") from error


def _lay_out(root: Path, unlabelled: Path | None, layout: str, walk: Walk) -> Layout:
    folders = {"train": root} if layout == "classes" else _parts(root, walk)
    classes = _classes(folders["train"], walk)
    if len(classes) < 2:
        raise Fault(_too_few(folders["train"], classes, walk))
    parts = {"train": _list(classes, list(classes), walk)}
    for role in ("validation", "test"):
        if role in folders:
            found = _classes(folders[role], walk)
            listing = _list(found, list(classes), walk)
            if not found or not listing.paths:
                raise Fault(f"'{readable(folders[role])}' looks like the part {MEANING[role]}, and holds no folders of classes with pictures: "
                            + _instead(folders[role]))  # fmt: skip
            parts[role] = listing
    if unlabelled:
        pictures = walk.pictures(unlabelled)
        if not pictures:
            raise Fault(f"the folder of unlabelled pictures '{readable(unlabelled)}' holds no picture")
        parts["unlabelled"] = Listing(tuple(pictures), (-1,) * len(pictures), tuple(inside(path, unlabelled) for path in pictures))
    return Layout(tuple(classes), parts, tuple(walk.told()))


def role_of(names: Iterable[str]) -> dict[str, str]:
    """name -> role, of those folders among `names` that are called like a part: Training, seg_test, brain-val beside brain-train."""
    words = {name: _words(name) for name in names}
    roles = {name: {role for role, known in ROLES.items() if set(known) & set(said)} for name, said in words.items()}
    called = [name for name, found in roles.items() if len(found) == 1]
    shared = set.intersection(*(set(words[name]) for name in called)) if len(called) > 1 else set()
    return {name: role for name in called for role in roles[name] if set(words[name]) - shared - FILLERS <= set(ROLES[role])}


def _words(name: str) -> list[str]:
    """The words of a name, in small letters: TrainSet, train_set and trainset are train and set."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    found = []
    for word in re.findall(r"[^\W\d_]+", apart.lower()):
        known = re.fullmatch(rf"({'|'.join(word for role in ROLES.values() for word in role)})({'|'.join(FILLERS)})", word)
        found += known.groups() if known else [word]
    return found


def _parts(root: Path, walk: Walk) -> dict[str, Path]:
    """role -> its folder of classes. Without such folders the root is what is trained with. Raises Fault where a folder looks like a part and is none."""
    folders = {path.name: path for path in walk.folders(root)}
    roles = role_of(folders)
    deep = {name: bool(walk.folders(path)) for name, path in folders.items()}
    if not any(deep[name] for name in roles) and len(roles) < 2:
        _ask(root, list(folders.values()), walk)
        return {"train": root}
    found: dict[str, Path] = {}
    for name, role in roles.items():
        if role in found:
            raise Fault(f"'{readable(root)}' holds {found[role].name}/ and {name}/, and both look like the part {MEANING[role]}: "
                        "rename one of them or move it away; or set dataset.layout=classes if these are the classes")  # fmt: skip
        found[role] = folders[name]
    if "train" not in found or not deep[found["train"].name]:
        looks = " and ".join(f"{name}/" for name in roles)
        if len(roles) == 1:  # a class that is called test
            _ask(root, list(folders.values()), walk)
            return {"train": root}
        why = "there is no train/" if "train" not in found else f"{found['train'].name}/ holds no folders of classes"
        raise Fault(f"'{readable(root)}' holds {looks}, which look like parts of a data set, and {why}: each part needs one folder of pictures for each class; "
                    "or set dataset.layout=classes if these are the classes")  # fmt: skip
    for role, path in [*found.items()]:
        if not deep[path.name] and not walk.any(path):
            walk.note(f"'{readable(path)}' is empty and is passed over")
            del found[role]
        elif not deep[path.name]:
            raise Fault(f"'{readable(path)}' looks like the part {MEANING[role]}, and its pictures lie in no folder of a class: {_instead(path)}")
    _others(root, {name: path for name, path in folders.items() if name not in roles}, found, walk)
    return {role: _deeper(path, walk) for role, path in found.items()}


def _instead(folder: Path) -> str:
    return f"sort them, or take them as the pool with dataset.unlabelled_root='{readable(folder)}', or move the folder away"


def _others(root: Path, others: Mapping[str, Path], found: Mapping[str, Path], walk: Walk) -> None:
    """Folders beside the parts: one that may well be a part is asked about, and any with pictures is told of."""
    _loose(root, walk)
    known = {name_of(path) for path in walk.folders(_deeper(found["train"], walk))}
    for name, path in others.items():
        like = len(known & {name_of(inner) for inner in walk.folders(path)}) >= 2
        if like and (len(found) == 1 or set(_words(name)) & set(UNCLEAR)):
            raise Fault(f"'{readable(root)}' holds {found['train'].name}/ and {name}/ with folders of the same names: rename {name}/ to test/ or val/, "
                        "as it is meant, or move it away")  # fmt: skip
        if walk.any(path):
            walk.note(f"'{readable(path)}' is no part to train or test with, and is not read; dataset.unlabelled_root='{readable(path)}' makes it the pool")


def _ask(root: Path, folders: Sequence[Path], walk: Walk) -> None:
    """Fault where all folders hold sub-folders of the same names: are the classes outside, or inside?"""
    if len(folders) < 2:
        return
    inner = set.intersection(*({name_of(path) for path in walk.folders(folder)} for folder in folders))
    if len(inner) >= 2 or role_of(inner):
        these, those = (", ".join(sorted(names)[:5]) for names in (map(name_of, folders), inner))
        name = name_of(folders[0])
        turned = f"for parts turn them round, {sorted(role_of(inner))[0]}/{name}/" if role_of(inner) else "call parts train/, val/ and test/"
        raise Fault(f"the folders in '{readable(root)}' ({these}) all hold folders of the same names ({those}), so it cannot be told which are the "
                    f"classes: {turned}; dataset.layout=classes takes all pictures below {name}/ as that class")  # fmt: skip


def _deeper(folder: Path, walk: Walk) -> Path:
    """The folder itself, or the only one inside it where that is called alike: archives are often packed so, seg_train/seg_train/CLASS."""
    within = walk.folders(folder)
    alike = len(within) == 1 and (within[0].name == folder.name or role_of([within[0].name]) == {within[0].name: role_of([folder.name]).get(folder.name)})
    return within[0] if alike and walk.folders(within[0]) else folder


def _classes(folder: Path, walk: Walk) -> dict[str, list[Path]]:
    """class -> its folders, in order of name; two where a system wrote an accent in two ways."""
    found: dict[str, list[Path]] = {}
    for path in walk.folders(folder):
        found.setdefault(name_of(path), []).append(path)
    _loose(folder, walk)
    return dict(sorted(found.items()))


def _loose(folder: Path, walk: Walk) -> None:
    if loose := [name for name in walk.files(folder) if ending(name) in PICTURES]:
        walk.note(f"pictures in '{readable(folder)}' itself are in no class and not read: {len(loose)}, the first {as_text(loose[0])}")


def _list(found: Mapping[str, Sequence[Path]], classes: Sequence[str], walk: Walk) -> Listing:
    paths, labels, names = [], [], []
    for name, folders in found.items():
        pictures = [(path, folder) for folder in folders for path in walk.pictures(folder)]
        if pictures and name not in classes:
            raise Fault(f"'{readable(folders[0])}' holds pictures of a class that the part to train with does not have{nearest(name, classes)}")
        paths += [path for path, _ in pictures]
        labels += [classes.index(name)] * len(pictures) if pictures else []
        names += [f"{name}/{inside(path, folder)}" for path, folder in pictures]
    return Listing(tuple(paths), tuple(labels), tuple(names))


def _too_few(folder: Path, classes: Mapping[str, Sequence[Path]], walk: Walk) -> str:
    found, more = "it holds no folders", ""
    if classes:
        (name,) = classes
        found = f"it holds only '{name}'"
        if len(walk.folders(classes[name][0])) >= 2:
            more = f": is it dataset.root='{readable(classes[name][0])}'?"
    return f"'{readable(folder)}' must hold one folder of pictures for each class, and two or more of them; {found}{more}"
