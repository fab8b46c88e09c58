"""Classes of another network by name: which of ours each of theirs is. No torch."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError, nearest
from kdx.core.files import kind_at, read_json

UNMAPPED_CLASSES = ("drop", "error")
"""What becomes of what a teacher says of a class that is none of ours."""
_SHOWN = 10


@dataclass(frozen=True)
class ClassMap:
    """node: whose it is, such as "teacher". theirs: the classes that a network learned, in its order. to:
    theirs -> ours, several of theirs may be one of ours. unmapped: of `UNMAPPED_CLASSES`."""

    node: str
    theirs: Sequence[str]
    to: Mapping[str, str]
    unmapped: str

    @property
    def left(self) -> list[str]:
        """Those of theirs that are none of ours."""
        return [name for name in self.theirs if name not in self.to]

    def places(self, ours: Sequence[Any]) -> list[int]:
        """Of each of theirs its place among ours, -1: it has none. Raises UserError where it names a class
        that the data do not have."""
        names = [nfc(name) for name in ours]
        for there, here in self.to.items():
            if here not in names:
                raise UserError(
                    f"{self.node}.classes_map says that '{there}' is '{here}', and the data have no such "
                    f"class{nearest(here, names)}"
                )
        return [names.index(self.to[name]) if name in self.to else -1 for name in self.theirs]

    def document(self) -> dict[str, Any]:
        """As JSON; `ClassMap(**it)` again."""
        return {**asdict(self), "theirs": list(self.theirs), "to": dict(self.to)}


def read_class_map(node: str, given: Mapping[Any, Any], unmapped: str, weights: Path) -> ClassMap:
    """given: as its file holds it, theirs: ours. weights: the file beside whose model.json the names of
    theirs stand. Raises UserError where it does not fit these."""
    theirs = learned_classes(weights)
    if theirs is None:
        raise UserError(
            f"{node}.classes_map goes by the names of the classes that a checkpoint learned, and no "
            f'model.json beside \'{weights}\' says them: write one, {{"classes": ["cat", ...]}}, in the '
            "order of its last layer"
        )
    to = {nfc(there): nfc(here) for there, here in given.items()}
    if unknown := [name for name in to if name not in theirs]:
        raise UserError(
            f"{node}.classes_map names '{unknown[0]}', and the checkpoint learned no such class"
            f"{nearest(unknown[0], theirs)}"
        )
    found = ClassMap(node, theirs, to, unmapped)
    if not to:
        raise UserError(f"{node}.classes_map is empty: a line for each class of the teacher, theirs: ours")
    if unmapped == "error" and found.left:
        raise UserError(
            f"{node}.classes_map has no class of the data for {listed_names(found.left)}: name one for each, "
            f"or set {node}.classes_unmapped=drop, which leaves out what the teacher says of them"
        )
    return found


def wrong_names(
    key: str, to: Mapping[str, str], theirs: Sequence[Any], ours: Sequence[Any], whose: tuple[str, str]
) -> list[str]:
    """What is wrong with the names in a file of classes, the first ten of it. to: what it says, theirs: ours.
    key: that names the file. whose: who has these and those, such as ("pool=digits has", "the data set has").
    """
    there, here = list(map(nfc, theirs)), list(map(nfc, ours))
    wrong = [
        f"{key} names '{name}', and {whose[0]} no such class{nearest(name, there)}"
        for name in to
        if name not in there
    ]
    wrong += [
        f"{key} says that '{name}' is '{one}', and {whose[1]} no such class{nearest(one, here)}"
        for name, one in to.items()
        if one not in here
    ]
    return wrong[:_SHOWN]


def learned_classes(weights: Path) -> list[str] | None:
    """What the model.json beside a file of weights names, None: nothing does."""
    beside = weights.with_name("model.json")
    try:
        about = read_json(beside) if kind_at(beside) == "a file" else None
    except UserError:
        return None  # not needed, and no business of this run
    learned = about.get("classes") if isinstance(about, dict) else None
    return [nfc(name) for name in learned] if isinstance(learned, list) else None


def listed_names(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + (" and more" if len(names) > _SHOWN else "")


def nfc(name: Any) -> str:
    """A class's name, however a system wrote its accents."""
    return unicodedata.normalize("NFC", str(name))
