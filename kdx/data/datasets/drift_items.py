"""A made-up stream of users who each choose one item: which items there are changes, later ones are new."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kdx.core import checks
from kdx.data.loading import check_int
from kdx.data.raw import Description
from kdx.data.tables.rows import CLASSES_TASK, Table, TableColumn, describe_table
from kdx.data.tables.shipped import numbers_of


class DriftItems:
    """Rows in the order of time: what is known of a user, d standard normal numbers u, and the item chosen.
    Item k has a vector v_k of the same kind; of the items that are out by then the one with the largest
    u v_k / sqrt(d) + noise * Gumbel is chosen.

    items: K; first: how many of them are there from the start, 1 to K; the others come out at even intervals,
    the last of them before the end, and none goes. features: d. noise >= 0. data_seed: a number of the data
    set's own, so that the run's seed does not change the data.
    """

    def __init__(self, *, rows: int, items: int, first: int, features: int, noise: float, data_seed: int):
        self._items = check_int("items", items, 2, 10_000)
        self._first = check_int("first", first, 1, items)
        self._rows = check_int("rows", rows, items, 100_000_000)
        self._features = check_int("features", features, 1, 10_000)
        self._noise = checks.number("dataset.noise", noise, low=0)
        self._seed = check_int("data_seed", data_seed, 0, 2**32 - 1)

    def files(self) -> list[Path]:
        return []

    def fetch(self) -> None:
        """Nothing to fetch."""

    def describe(self) -> Description:
        return describe_table(self.load())

    def load(self, *, workers: int = 0) -> Table:
        users, chosen = drawn_choices(
            self._rows, self._items, self._first, self._features, self._noise, self._seed
        )
        columns = tuple(TableColumn(f"user {place}") for place in range(self._features))
        names = [f"item {number}" for number in range(self._items)]
        return Table(
            {"train": (numbers_of(users), chosen)}, columns, {"_target_": CLASSES_TASK, "classes": names}
        )


def drawn_choices(
    rows: int, items: int, first: int, features: int, noise: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(N, d) float64 users and (N,) int64 items, in the order of time. Every item is chosen once at least: at
    the moment that it comes out."""
    random = np.random.RandomState(seed)
    vectors, users = random.standard_normal((items, features)), random.standard_normal((rows, features))
    born = births(rows, items, first)
    liked = users @ vectors.T / np.sqrt(features) + noise * random.gumbel(size=(rows, items))
    liked[np.arange(rows)[:, None] < born] = -np.inf
    chosen = liked.argmax(1).astype(np.int64)
    for item, at in enumerate(born):
        chosen[at + (item if item < first else 0)] = item
    return users, chosen


def births(rows: int, items: int, first: int) -> np.ndarray:
    """(K,) the row from which on each item is there."""
    later = items - first
    return np.array([0] * first + [rows * (number + 1) // (later + 1) for number in range(later)])
