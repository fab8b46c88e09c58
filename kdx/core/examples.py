"""Made-up rows of the kind that a data set has, for checks before work, sizes and timing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from kdx.core.trees import Tree, from_leaves

Example = Mapping[str, tuple[Sequence[int], str]]
"""name -> (shape of one row, type such as "uint8"), "" where a row is one array: as a data set describes
it."""


def blank(example: Example, rows: int = 1) -> Tree:
    """Rows of zeros as a network sees them; of yes and no, yes."""
    return _made(example, rows, torch.zeros)


def random_rows(example: Example, rows: int, generator: torch.Generator | None = None) -> Tree:
    """Rows of numbers in [0, 1) as a network sees them; whole numbers are 0, and of yes and no it is yes."""
    return _made(example, rows, lambda *shape: torch.rand(*shape, generator=generator))


def stored_rows(example: Example, rows: int) -> Tree:
    """Random rows as a split stores them: levels as uint8."""
    return from_leaves(
        {
            name: torch.randint(256, (rows, *shape), dtype=torch.uint8)
            if kind == "uint8"
            else _one(shape, kind, rows, torch.rand)
            for name, (shape, kind) in example.items()
        }
    )


def _made(example: Example, rows: int, make: Callable[..., Tensor]) -> Tree:
    return from_leaves({name: _one(shape, kind, rows, make) for name, (shape, kind) in example.items()})


def _one(shape: Sequence[int], kind: str, rows: int, make: Callable[..., Tensor]) -> Tensor:
    if kind == "uint8":
        return make(rows, *shape)
    dtype: torch.dtype = getattr(torch, kind)
    if dtype.is_floating_point:
        return make(rows, *shape).to(dtype)
    return torch.full((rows, *shape), int(kind == "bool"), dtype=dtype)
