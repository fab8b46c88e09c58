"""Experimental: states of a pole on a cart, in which a network acts (kdx.core.cart_pole)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kdx.core import cart_pole, checks
from kdx.data.loading import check_int
from kdx.data.raw import Arrays, Description, example_of

_TASK, _ADAPTER = "kdx.tasks.policy.Policy", "kdx.models.control.ControlAdapter"


class CartPole:
    """rows, test_rows: states, drawn even in the box |position| <= 2.4 m, |velocity| <= 2 m/s, |angle| <= 12
    degrees, |turn| <= 2 rad/s, each side times spread in (0, 1]. An episode begins in each. horizon: steps
    after which one ends where the pole still stands. data_seed: a number of the data set's own, so that the
    run's seed does not change the states.
    """

    def __init__(self, *, rows: int, test_rows: int, spread: float, horizon: int, data_seed: int):
        self._rows = check_int("rows", rows, 1, 10_000_000)
        self._test_rows = check_int("test_rows", test_rows, 0, 10_000_000)
        self._spread = checks.number("dataset.spread", spread, low=0, high=1, open_low=True)
        self._horizon = check_int("horizon", horizon, 1, cart_pole.MOST_STEPS)
        self._seed = check_int("data_seed", data_seed, 0, 2**63 - 1)

    def files(self) -> list[Path]:
        return []

    def fetch(self) -> None:
        """Nothing to fetch."""

    def describe(self) -> Description:
        raw = self.load()
        test = raw.part("test")[0]
        return Description(
            task=raw.task,
            example=example_of(raw.part("train")[0]),
            reads=raw.reads,
            train=self._rows,
            test=None if test is None else len(test),
            adapter=raw.between,
        )

    def load(self, *, workers: int = 0) -> Arrays:
        states = self._states(self._rows + self._test_rows)
        held = np.stack(
            [cart_pole.steps_held(states, action, self._horizon) for action in range(len(cart_pole.ACTIONS))],
            1,
        )
        parts = {"train": (states[: self._rows], held[: self._rows])}
        if self._test_rows:
            parts["test"] = (states[self._rows :], held[self._rows :])
        return Arrays(
            parts,
            task={"_target_": _TASK, "actions": list(cart_pole.ACTIONS)},
            reads="table",
            between={"_target_": _ADAPTER, "horizon": self._horizon},
            noun="state",
        )

    def _states(self, rows: int) -> np.ndarray:
        """(N, 4) float32"""
        random = np.random.Generator(np.random.PCG64(self._seed))
        box = self._spread * np.array(cart_pole.BOX)
        return random.uniform(-box, box, (rows, len(box))).astype(np.float32)
