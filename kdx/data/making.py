"""Rows that are made up of those that training may see, to be answered by a teacher: they join the pool.
Numpy and the standard library only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from kdx.data.raw import Description, Raw


class RowMaker(ABC):
    """What makes rows: an option of the groups `made_up` and `pool`. One of its keys is `rows`, how many it
    makes.

    Nobody knows their truth. They are made once, as the data set is prepared, and are a pure function of the
    labelled rows, the keys and the run's seed.
    """

    makes_rows: ClassVar[bool] = True
    """What tells it from a data set, where either may be named (`pool`)."""
    reads: ClassVar[str]
    """What rows it makes, as data sets say it (see Raw)."""
    rows: int

    def released(self) -> tuple[float, float] | None:
        """(epsilon, delta) that the rows cost of the privacy of each labelled row, (0, 0): they show none;
        None: they show labelled rows as they are."""
        return None

    def caution(self) -> str | None:
        """What there is to say where training reads the labelled rows themselves, a sentence."""
        epsilon = (self.released() or (0.0, 0.0))[0]
        if not epsilon:
            return None
        return (
            f"epsilon {epsilon:g} is of the made-up rows alone and promises nothing of the student, as its "
            "teacher learns from the labelled rows themselves; recipe=private makes a promise of the student"
        )

    def idle(self) -> Mapping[str, str]:
        """Its settings that another one leaves without effect: key -> why, a clause. They must change nothing
        of the rows. Where such a key is typed, that is an error before any work."""
        return {}

    def check(self, described: Description) -> None:
        """Raises UserError where it can make no rows of such a data set, before any row of it is read."""
        return None

    @abstractmethod
    def make(self, raw: Raw, seen: Any, seed: int) -> Any:
        """Inputs of `rows` rows, of the form of `seen`, the inputs of the labelled rows. raw: what they are
        of."""
