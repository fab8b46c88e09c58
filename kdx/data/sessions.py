"""Data that come in parts, one after another: which classes, which rows. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kdx.core.checks import shown
from kdx.core.errors import UserError, nearest


def class_groups(
    classes: Sequence[str], sessions: int, groups: Sequence[Sequence[str]] | None = None
) -> list[list[int]]:
    """The classes of each session, by number: in their order, in groups that differ by one at most; or
    `groups` of names. Raises UserError where there are fewer classes than sessions, or a class is in no
    session or in two.
    """
    if groups is None:
        if sessions > len(classes):
            raise UserError(
                f"recipe.sessions={sessions} share out {len(classes)} classes, and each session has one at "
                f"least: set recipe.sessions={len(classes)} at most"
            )
        return [found.tolist() for found in np.array_split(np.arange(len(classes)), sessions)]
    names = [str(name) for name in classes]
    given = [[str(name) for name in group] for group in groups]
    flat = [name for group in given for name in group]
    for name in flat:
        if name not in names:
            raise UserError(f"recipe.groups names the class {shown(name)}{nearest(name, names)}")
        if flat.count(name) > 1:
            raise UserError(f"recipe.groups names the class '{name}' twice: leave one out")
    if left := [name for name in names if name not in flat]:
        raise UserError(
            f"recipe.groups leaves {'the class' if len(left) == 1 else 'classes'} "
            f"{', '.join(left[:10])}{' ...' if len(left) > 10 else ''} in no session: add "
            f"{'it' if len(left) == 1 else 'them'} to one"
        )
    if empty := [number for number, group in enumerate(given, 1) if not group]:
        raise UserError(f"recipe.groups has no class in group {empty[0]}: name one, or leave it out")
    return [[names.index(name) for name in group] for group in given]


def of_class(strata: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """(N,) classes -> (N,) the session of each row, from 0."""
    session = np.zeros(max((max(group) for group in groups), default=0) + 1, np.int64)
    for number, group in enumerate(groups):
        session[list(group)] = number
    return session[strata]


def of_time(numbers: np.ndarray, sessions: int) -> np.ndarray:
    """(N,) places in time, of any scale -> (N,) the session of each row, from 0: parts that differ by one
    row at most."""
    found = np.zeros(len(numbers), np.int64)
    for number, rows in enumerate(np.array_split(np.argsort(numbers, kind="stable"), sessions)):
        found[rows] = number
    return found


def remembered(strata: np.ndarray, rows: np.ndarray, memory: int, seed: int) -> np.ndarray:
    """At most `memory` of these rows, ascending: as many of each class as can be, drawn by the seed; of a
    larger memory a smaller one is a part. strata: (N,) the class of every row; rows: (n,) numbers of some.
    """
    if len(rows) <= memory:
        return np.sort(rows)
    order = np.random.default_rng([seed % (1 << 63), 17]).permutation(len(strata))
    place = np.empty(len(strata), np.int64)
    place[order] = np.arange(len(strata))
    shuffled = rows[np.argsort(place[rows], kind="stable")]
    turn = np.empty(len(shuffled), np.int64)  # the how manieth of its class
    for one in np.unique(strata[shuffled]):
        own = np.flatnonzero(strata[shuffled] == one)
        turn[own] = np.arange(len(own))
    return np.sort(shuffled[np.lexsort((strata[shuffled], turn))[:memory]])
