"""New rows that a caller in Python holds, as arrays or tensors in the form that a network takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdx.core.errors import UserError, together
from kdx.core.trees import from_leaves, leaves, part_of, rows_of
from kdx.data.new_rows.rows import ROW_COLUMN, NewRows, RowBlock

_LEVELS = "uint8"
"""What a data set stores pictures as; a network takes them as numbers from 0 to 1 as well."""


class GivenRows(NewRows):
    """n rows, known by their number from 1.

    x: one array, or several by name, each (n, *shape of one row). example: name -> (shape of one row, dtype)
    of a model.json. Where that has uint8, as of pictures, x is uint8, or floats from 0 to 1. Raises UserError
    where x is anything else.
    """

    def __init__(self, x: Any, example: Mapping[str, tuple[Sequence[int], str]]):
        found = leaves(x)
        if set(found) != set(example):
            wanted = together([f"'{name}'" for name in example]) if set(example) != {""} else "one array"
            given = together([f"'{name}'" for name in found]) if isinstance(x, Mapping) else "one array"
            raise UserError(f"this network takes {wanted}; given: {given or 'nothing'}")
        made = {
            name: _tensor(found[name], name, tuple(shape), kind) for name, (shape, kind) in example.items()
        }
        if len({len(leaf) for leaf in made.values()}) > 1:
            lengths = ", ".join(f"{name}: {len(leaf):,}" for name, leaf in made.items())
            raise UserError(f"all inputs must have as many rows: {lengths}")
        self._inputs = from_leaves(made)
        self.count, self.unread = rows_of(self._inputs), []
        if not self.count:
            raise UserError("there is no row to answer: the array is empty")

    def blocks(self, size: int) -> Iterator[RowBlock]:
        for start in range(0, self.count, size):
            block = part_of(self._inputs, start, size)
            yield RowBlock({ROW_COLUMN: list(range(start + 1, start + rows_of(block) + 1))}, block)


def _tensor(value: Any, name: str, shape: tuple[int, ...], kind: str) -> Tensor:
    called = f"'{name}'" if name else "the array"
    form = f"({', '.join(['N', *map(str, shape)])})"
    wanted = f"{form} {kind}" if kind != _LEVELS else f"{form}, float from 0 to 1 or uint8"
    try:
        found = value.detach().cpu() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    except (TypeError, ValueError) as error:
        raise UserError(f"{called} must be {wanted}; given: {type(value).__name__}") from error
    if tuple(found.shape[1:]) != shape:
        one = "; for one row, x[None]" if tuple(found.shape) == shape else ""
        raise UserError(f"{called} must be {wanted}; given: {tuple(found.shape)}{one}")
    whole = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    if kind == _LEVELS:
        if found.dtype == torch.uint8:
            return found
        if not found.is_floating_point():
            raise UserError(f"{called} must be {wanted}; given: {str(found.dtype).removeprefix('torch.')}")
        if len(found) and not (0 <= float(found.min()) and float(found.max()) <= 1):  # false of NaN too
            raise UserError(
                f"{called} must be {wanted}; given: from {float(found.min()):.4g} to {float(found.max()):.4g}"
                + ("; divide by 255" if 1 < float(found.max()) <= 255 else "")
            )
        return found.float()
    if not whole and not kind.startswith("float"):
        raise UserError(f"{called} must be {wanted}; given: {str(found.dtype).removeprefix('torch.')}")
    return found.to(vars(torch)[kind])
