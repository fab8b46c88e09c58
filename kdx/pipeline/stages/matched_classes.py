"""Which classes of a data set those of another are, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kdx.core.class_names import nfc
from kdx.core.errors import UserError
from kdx.core.task import Task


class MatchedClasses:
    """Which of ours each class of another data set is; where truth is no class it is taken as it is."""

    def __init__(self, theirs: Task, ours: Task, called: str, classes: Mapping[str, str]):
        self.called, self.ours = called, ours
        self.names = [nfc(name) for name in getattr(theirs, "classes", ())]
        here = [nfc(name) for name in getattr(ours, "classes", ())]
        to = {name: nfc(classes.get(name, name)) for name in self.names}
        self.places = np.array([here.index(to[name]) if to[name] in here else -1 for name in self.names])
        self.here = here

    @property
    def shared(self) -> int:
        return int((self.places >= 0).sum())

    def of_pool(self, hidden: Any) -> Any:
        """The truth of rows that nobody learns from, as far as it is one of ours."""
        if not self.names:
            return hidden
        known = np.asarray(hidden)
        found = np.full(len(known), -1, np.int64)
        found[known >= 0] = self.places[known[known >= 0]]
        return found

    def of_test(self, truth: Any) -> tuple[np.ndarray | None, Any]:
        """(which of the rows can be tested on, None: all; their truth in our classes)"""
        if not self.names:
            return None, truth
        if not self.shared:
            raise UserError(no_shared_classes(self.called, self.names, self.here))
        found = self.places[np.asarray(truth)]
        return np.flatnonzero(found >= 0), found[found >= 0]

    def notes(self, tested: bool = False) -> list[str]:
        if not self.names:
            return []
        left = [name for name, place in zip(self.names, self.places, strict=True) if place < 0]
        if not left or not self.shared:
            return []
        return [
            f"{len(left)} of the {len(self.names)} classes of pool={self.called} are none of the data set's "
            f"({', '.join(left[:5])}{', ...' if len(left) > 5 else ''}): "
            + ("their rows are not tested on" if tested else "nobody knows what is right there")
        ]

    def warnings(self) -> list[str]:
        """What is said of a pool without a single class of ours, where nothing is tested on it."""
        if not self.names or self.shared:
            return []
        return [
            f"pool={self.called} has no class of the data set's: it has {_some(self.names)}, and the data "
            f"set {_some(self.here)}; whatever the teacher answers there is a class that the row is not. "
            "Where they mean the same under other names: pool.classes_map=FILE, a line a class, theirs: ours"
        ]


def no_shared_classes(called: str, theirs: Sequence[str], ours: Sequence[str]) -> str:
    """What is said where a test on another data set could not hold a single right answer."""
    return (
        f"pool={called} has no class of the data set's, so nothing can be tested there: it has "
        f"{_some(theirs)}, and the data set {_some(ours)}; set pool.classes_map=FILE, a line a class, "
        "theirs: ours, or pool.test=false"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:10])) + (", ..." if len(names) > 10 else "")
