"""Which rows a step of a training takes: a pure function of (seed, step)."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from kdx.core.errors import UserError
from kdx.core.trees import joined
from kdx.data.views.draws import word


class RowOrder:
    """Passes over n rows, each in a permutation of its own, cut into batches that run on over the end of a
    pass.
    """

    even = True
    """Whether all batches are of one size."""

    def __init__(self, n: int, batch: int, seed: int):
        if n < 1 or batch < 1:
            raise UserError(
                f"batches need at least one row and a size of at least 1; given {n} rows and batch size "
                f"{batch}: check the split sizes"
            )
        self.n, self.batch, self.seed = n, batch, seed
        self._permutation = lru_cache(maxsize=4)(self._permute)  # a few, as workers are some steps apart

    def _permute(self, number: int) -> Tensor:
        generator = torch.Generator().manual_seed(word("order", self.seed, number))
        return torch.randperm(self.n, generator=generator)

    def first(self, count: int) -> Tensor:
        """(count,) int64 ascending: the rows that come first in the first pass, at most all n."""
        return self._permutation(0)[:count].sort().values

    def rows(self, step: int, steps: int = 1) -> tuple[Tensor, Tensor]:
        """index (batch,), passes (batch,): int64 on the CPU. A batch longer than n spans several passes.
        steps: so many batches from that step on, one behind the other, where all are of one size.
        """
        start, stop = step * self.batch, (step + steps) * self.batch
        parts, passes = [], []
        for number in range(start // self.n, (stop - 1) // self.n + 1):
            before = number * self.n
            parts.append(self._permutation(number)[max(0, start - before) : stop - before])
            passes.append(torch.full((len(parts[-1]),), number))
        return joined(parts), joined(passes)

    def passed(self, steps: int) -> float:
        """How often so many steps go through the rows."""
        return steps * self.batch / self.n


class TimeOrder(RowOrder):
    """Passes over n rows as they stand, each row once: the last batch of a pass has what is left, but two
    rows at least, the one before along with a single one.
    """

    even = False

    def __init__(self, n: int, batch: int):
        super().__init__(n, batch, seed=0)
        self._steps = math.ceil(n / batch)

    def rows(self, step: int, steps: int = 1) -> tuple[Tensor, Tensor]:
        number, place = divmod(step, self._steps)
        stop = min((place + 1) * self.batch, self.n)
        index = torch.arange(max(0, min(place * self.batch, stop - 2)), stop)
        return index, torch.full_like(index, number)

    def first(self, count: int) -> Tensor:
        return torch.arange(min(count, self.n))

    def passed(self, steps: int) -> float:
        return steps / self._steps
