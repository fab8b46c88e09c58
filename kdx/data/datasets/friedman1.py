"""Friedman #1 (Friedman 1991, "Multivariate adaptive regression splines"): made-up numbers of which five tell
something."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kdx.core import checks
from kdx.data.loading import check_int
from kdx.data.raw import Description
from kdx.data.tables.rows import NUMBERS_TASK, Table, TableColumn, describe_table
from kdx.data.tables.shipped import numbers_of

_TOLD = 5
"""Features that the target hangs on."""


class Friedman1:
    """y = 10 sin(pi x0 x1) + 20 (x2 - 1/2)^2 + 10 x3 + 5 x4 + noise, each x uniform in [0, 1], as
    sklearn.datasets.make_friedman1 draws them.

    rows: of the train part; test_rows: 0: none, and `test` is held out. features >= 5: of which the others
    tell nothing. noise >= 0: its standard deviation. data_seed: a number of the data set's own, so that the
    run's seed does not change the data.
    """

    def __init__(self, *, rows: int, test_rows: int, features: int, noise: float, data_seed: int):
        self._rows = check_int("rows", rows, 1, 100_000_000)
        self._test_rows = check_int("test_rows", test_rows, 0, 100_000_000)
        self._features = check_int("features", features, _TOLD, 10_000)
        self._noise = checks.number("dataset.noise", noise, low=0)
        self._seed = check_int("data_seed", data_seed, 0, 2**32 - 1)

    def files(self) -> list[Path]:
        return []

    def fetch(self) -> None:
        """Nothing to fetch."""

    def describe(self) -> Description:
        return describe_table(self.load())

    def load(self, *, workers: int = 0) -> Table:
        x, y = drawn(self._rows + self._test_rows, self._features, self._noise, self._seed)
        x, y = numbers_of(x), numbers_of(y[:, None])
        parts = {"train": (x[: self._rows], y[: self._rows])}
        if self._test_rows:
            parts["test"] = (x[self._rows :], y[self._rows :])
        columns = tuple(TableColumn(f"x{place}") for place in range(self._features))
        return Table(parts, columns, {"_target_": NUMBERS_TASK, "names": ["y"]})


def drawn(rows: int, features: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) and (N,) float64"""
    random = np.random.RandomState(seed)
    x = random.uniform(size=(rows, features))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    return x, y + noise * random.standard_normal(rows)
