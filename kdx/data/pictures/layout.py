"""What lies where in a folder of pictures: which part is trained, validated and tested with, which class a
picture has. Opens no picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdx.core.errors import UserError
from kdx.data.pictures.listing import Listing, classes_in, list_pictures, note_alike, note_loose
from kdx.data.pictures.roles import crossed, role_of, words_of
from kdx.data.pictures.walk import (
    PICTURE_FILES,
    Sought,
    Walk,
    as_text,
    file_ending,
    inside,
    name_of,
    readable,
)
from kdx.data.raw import MEANING

UNCLEAR = ("eval", "evaluation", "holdout", "heldout")


@dataclass(frozen=True)
class Layout:
    """Classes in the order of their numbers, the pictures of each part that is there, and what is to be
    reported
     what was left out.

    parts: by name, of train, validation, test and unlabelled; train always. A class may have no picture in
    any of them.
    """

    classes: tuple[str, ...]
    parts: Mapping[str, Listing]
    notes: tuple[str, ...]


def lay_out(root: Path, unlabelled: Path | None, layout: str, sought: Sought = PICTURE_FILES) -> Layout:
    """root, unlabelled: folders that exist. layout: "auto"; "parts": root holds train/ and maybe val/ and
    test/, and every folder in them is a class; or "classes": every folder in root is a class. Raises
    UserError where it cannot be known.
    """
    if unlabelled and root.resolve().is_relative_to(unlabelled.resolve()):
        raise UserError(
            f"dataset.unlabelled_root='{readable(unlabelled)}' holds dataset.root='{readable(root)}', so "
            f"the {sought.noun}s to train and test with would be in the pool: give the pool a folder of its "
            "own"
        )
    walk = Walk(unlabelled, sought)
    try:
        return _lay_out(root, unlabelled, layout, walk)
    except OSError as error:
        raise UserError(
            f"'{readable(error.filename or root)}' cannot be read: {error.strerror or error}"
        ) from error


def _lay_out(root: Path, unlabelled: Path | None, layout: str, walk: Walk) -> Layout:
    folders = {"train": root} if layout == "classes" else _parts(root, walk, certain=layout == "parts")
    classes = classes_in(folders["train"], walk)
    if len(classes) < 2:
        raise UserError(_too_few(folders["train"], classes, walk))
    note_alike(classes, walk)
    parts = {"train": list_pictures(classes, list(classes), walk)}
    if not parts["train"].paths and (texts := walk.texts()):
        raise UserError(
            f"'{readable(folders['train'])}' holds no {walk.noun}s; there are texts ({readable(texts[0])}), "
            "which dataset=text reads"
        )
    for role in ("validation", "test"):
        if role in folders:
            found = classes_in(folders[role], walk)
            listing = list_pictures(found, list(classes), walk)
            if not found or not listing.paths:
                raise UserError(
                    (
                        f"'{readable(folders[role])}' looks like the part {MEANING[role]}, and holds no "
                        f"folders of classes with {walk.noun}s: "
                    )
                    + _instead(folders[role])
                )
            parts[role] = listing
    if unlabelled:
        pictures = walk.pictures(unlabelled)
        if not pictures:
            raise UserError(
                f"the folder of unlabelled {walk.noun}s '{readable(unlabelled)}' holds no {walk.noun}"
            )
        parts["unlabelled"] = Listing(
            tuple(pictures), (-1,) * len(pictures), tuple(inside(path, unlabelled) for path in pictures)
        )
    return Layout(tuple(classes), parts, tuple(walk.reported()))


def _parts(root: Path, walk: Walk, certain: bool) -> dict[str, Path]:
    """role -> its folder of classes. Without such folders the root is what is trained with. Raises UserError
    where a folder looks like a part and is none.

    certain: somebody has said that these are parts, so nothing is asked that asks just that.
    """
    folders = {path.name: path for path in walk.folders(root)}
    roles = role_of(folders)
    deep = {name: bool(walk.folders(path)) for name, path in folders.items()}
    if not certain and not any(deep[name] for name in roles) and len(roles) < 2:
        _ask(root, "classes", walk)
        return {"train": root}
    found: dict[str, Path] = {}
    for name, role in roles.items():
        if role in found:
            raise UserError(
                f"'{readable(root)}' holds {found[role].name}/ and {name}/, and both look like the part "
                f"{MEANING[role]}: rename one of them or move it away; or set dataset.layout=classes if "
                "these are the classes"
            )
        found[role] = folders[name]
    if "train" not in found or not deep[found["train"].name]:
        looks = " and ".join(f"{name}/" for name in roles)
        if len(roles) == 1 and not certain:  # a class that is called test
            _ask(root, "classes", walk)
            return {"train": root}
        why = (
            "there is no train/"
            if "train" not in found
            else f"{found['train'].name}/ holds no folders of classes"
        )
        holds = (
            f"{looks}, which look like parts of a data set, and {why}"
            if looks
            else "nothing that is called train/"
        )
        raise UserError(
            f"'{readable(root)}' holds {holds}: each part needs one folder of {walk.noun}s for each class; "
            "or set dataset.layout=classes if these are the classes"
        )
    for role, path in [*found.items()]:
        if not deep[path.name] and not walk.any(path):
            walk.note(f"'{readable(path)}' is empty and is passed over")
            del found[role]
        elif not deep[path.name]:
            raise UserError(
                f"'{readable(path)}' looks like the part {MEANING[role]}, and its {walk.noun}s lie in no "
                f"folder of a class: {_instead(path)}"
            )
    _others(root, {name: path for name, path in folders.items() if name not in roles}, found, walk, certain)
    parts = _unwrapped({role: _deeper(path, walk) for role, path in found.items()}, walk)
    if not certain:
        _ask(parts["train"], "parts", walk)
    return parts


def _instead(folder: Path) -> str:
    return (
        f"sort them, or take them as the pool with dataset.unlabelled_root='{readable(folder)}', or move "
        "the folder away"
    )


def _others(
    root: Path, others: Mapping[str, Path], found: Mapping[str, Path], walk: Walk, certain: bool
) -> None:
    """Folders beside the parts:
    one that may well be a part is asked about, and any with pictures is reported.
    """
    note_loose(root, walk)
    train = found["train"]
    known = {name_of(path) for path in walk.folders(_deeper(train, walk))}
    pictures = []
    for name, path in others.items():
        like = len(known & {name_of(inner) for inner in walk.folders(path)}) >= 2
        if like and not certain and (len(found) == 1 or set(words_of(name)) & set(UNCLEAR)):
            raise UserError(
                f"'{readable(root)}' holds {train.name}/ and {name}/ with folders of the same names: rename "
                f"{name}/ to test/ or val/, as it is meant, or move it away"
            )
        if walk.any(path):
            pictures.append(as_text(name))
            walk.note(
                f"'{readable(path)}' is no part to train or test with, and is not read; "
                f"dataset.unlabelled_root='{readable(path)}' makes it the pool"
            )
    if pictures and len(found) == 1 and not certain:
        beside = ", ".join(f"{name}/" for name in pictures[:5])
        raise UserError(
            f"'{readable(root)}' holds {name_of(train)}/ and, with {walk.noun}s too, {beside}: is "
            f"{name_of(train)}/ the part to train with, or a class as they are? dataset.layout=parts trains "
            "with it alone, dataset.layout=classes takes every folder as a class"
        )


def _ask(folder: Path, layout: str, walk: Walk) -> None:
    """UserError where what would be the classes may well be something else: several hold sub-folders of the
    same names, or are called like parts.

    Sub-folders that all have one name, circle/2021 and square/2021, are no classes, as there would be one of
    them only. layout: the value of dataset.layout that says that they are the classes.
    """
    folders = walk.folders(folder)
    inner = {name_of(path): {name_of(within) for within in walk.folders(path)} for path in folders}
    every = [name for names in inner.values() for name in names]
    shared = {name for name in every if every.count(name) > 1}
    meant = f"dataset.layout={layout} takes"
    if shared and (
        role_of(shared) or len(set().union(*(names for names in inner.values() if names & shared))) > 1
    ):
        these = [name for name, names in inner.items() if names & shared]
        turned = (
            f"for parts turn them round, {sorted(role_of(shared))[0]}/{these[0]}/"
            if role_of(shared)
            else "call parts train/, val/ and test/"
        )
        raise UserError(
            f"the folders in '{readable(folder)}' ({_some(these)}) hold folders of the same names "
            f"({_some(shared)}), so it cannot be known which are the classes: {turned}, or move what is no "
            f"class away; {meant} all {walk.noun}s below {these[0]}/ as that class"
        )
    if called := crossed(inner):
        raise UserError(
            f"the folders in '{readable(folder)}' ({_some(called)}) are called like parts and "
            "classes in one: make folders train/, val/ or test/, and in them one for each class; "
            f"{meant} each of them as a class"
        )


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "")


def _unwrapped(parts: dict[str, Path], walk: Walk) -> dict[str, Path]:
    """The parts, where train/ holds one folder and that one the classes (train/images/cat), with these; so
    too the others that hold it alone.
    """
    within = walk.folders(parts["train"])
    if len(within) != 1 or len(walk.folders(within[0])) < 2:
        return parts
    found = {
        role: [path for path in walk.folders(part) if name_of(path) == name_of(within[0])]
        for role, part in parts.items()
    }
    walk.note(f"the classes are the folders in '{readable(within[0])}', the only one of its part")
    return {
        role: found[role][0] if len(walk.folders(part)) == len(found[role]) == 1 else part
        for role, part in parts.items()
    }


def _deeper(folder: Path, walk: Walk) -> Path:
    """The folder itself, or the only one inside it where that is called alike: archives are often packed so,
    seg_train/seg_train/CLASS.
    """
    within = walk.folders(folder)
    alike = len(within) == 1 and (
        within[0].name == folder.name
        or role_of([within[0].name]) == {within[0].name: role_of([folder.name]).get(folder.name)}
    )
    return within[0] if alike and walk.folders(within[0]) else folder


def _too_few(folder: Path, classes: Mapping[str, Sequence[Path]], walk: Walk) -> str:
    found, more = "it holds no folders", ""
    if classes:
        (name,) = classes
        found = f"it holds only '{name}'"
        if len(walk.folders(classes[name][0])) >= 2:
            more = f": is it dataset.root='{readable(classes[name][0])}'?"
    if walk.pool_is_within(folder):
        more = ", as the folder of dataset.unlabelled_root is not counted"
    tables = [name for name in walk.files(folder) if file_ending(name) in ("csv", "tsv", "xlsx", "parquet")]
    if tables and not more:
        more = (
            f". No label is read from a table such as {as_text(tables[0])}: sort the "
            f"{walk.noun}s into folders by it"
        )
    return (
        f"'{readable(folder)}' must hold one folder of {walk.noun}s for each class, and two or "
        f"more of them; {found}{more}"
    )
