"""Between the rows of a table and a network: numbers standardised and cut off, missing ones filled,
categories one-hot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdx.core.errors import UserError
from kdx.models.adapt import Adapter, Around, Finished, Plain

MISSING_CATEGORY = "(missing)"
"""What kdx.data.tables.kinds calls the category of missing words."""


class TableAdapter(Adapter):
    """columns: as kdx.data.tables.rows.column_statistics gives them, one a column of the rows. clip > 0:
    deviations from the mean beyond which a number is cut off.
    """

    def __init__(self, *, columns: Sequence[Mapping[str, Any]], clip: float):
        if not isinstance(columns, list | tuple) or not all(map(_is_column, columns)) or not _is_number(clip):
            raise UserError("the columns of this table are not as kdx writes them (see data.json)")
        if any(not 0 <= column.get("missing", 0) < len(columns) for column in columns):
            raise UserError("a column of this table names a flag that is not there (see data.json)")
        self.columns, self.clip = columns, clip

    def shape(self, shape: tuple[int]) -> tuple[int]:
        return (self._layer().features,)

    def wrap(self, made: nn.Module, shape: tuple[int]) -> Around:
        if isinstance(made, Finished) and made.unprepared(shape):
            return Plain(made)
        return Standardised(made, self._layer())

    def small(self, inputs: Tensor) -> np.ndarray:
        return self._layer()(inputs.cpu()).double().numpy()

    def _layer(self) -> ColumnLayer:
        return ColumnLayer(self.columns, self.clip)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_column(given: Any) -> bool:
    """Whether it is a column as kdx.data.tables.rows.column_statistics gives it."""
    if not isinstance(given, Mapping) or not isinstance(given.get("missing", 0), int):
        return False
    codes, numbers = given.get("codes", []), (given.get("mean", 0.0), given.get("std", 0.0))
    whole = isinstance(codes, list | tuple) and all(isinstance(code, int) and code >= 0 for code in codes)
    return whole and all(map(_is_number, numbers)) and numbers[1] >= 0


class ColumnLayer(nn.Module):
    """(B, D) values as rows hold them -> (B, F) float32: the numbers that vary in training, (x - mean) / std
    in [-clip, clip] and 0 where they are missing; the flags of missing ones; a 0 or 1 for each category.

    NaN is missing, whatever its flag says: of numbers that is the mean, and the flag is 1; of categories that
    which stands for missing ones, or none where training lacked none. A category that training has never
    seen is all 0.
    """

    def __init__(self, columns: Sequence[Mapping[str, Any]], clip: float):
        super().__init__()
        self.clip = float(clip)
        numbers = [(i, c) for i, c in enumerate(columns) if c.get("std", 0) > 0]
        flags = [i for i, c in enumerate(columns) if c.get("flag")]
        codes = [(i, code) for i, c in enumerate(columns) for code in c.get("codes", ())]
        others = [i for i, c in enumerate(columns) if c.get("others")]
        self.register_buffer("mean", torch.tensor([c["mean"] for _, c in numbers], dtype=torch.float32))
        self.register_buffer("std", torch.tensor([c["std"] for _, c in numbers], dtype=torch.float32))
        flagged = {c["missing"]: i for i, c in enumerate(columns) if "missing" in c}
        member = torch.zeros(len(codes), len(others))
        for place, (column, _) in enumerate(codes):
            if column in others:
                member[place, others.index(column)] = 1
        self._fixed("numbers", [i for i, _ in numbers])
        self._fixed("flags", flags)
        self._fixed("sources", [i for i, _ in codes])
        self._fixed("flagged", [flagged.get(i, i) for i in flags])
        self._fixed("told", [c.get("missing", i) for i, c in numbers])
        has_flag = torch.tensor(["missing" in c for _, c in numbers], dtype=torch.bool)
        self.register_buffer("has_flag", has_flag, persistent=False)
        self.register_buffer("fill", torch.tensor([_in_place(c) for c in columns]), persistent=False)
        self.register_buffer("member", member, persistent=False)
        self.register_buffer("codes", torch.tensor([float(code) for _, code in codes]), persistent=False)
        self.features = len(numbers) + len(flags) + len(codes) + len(others)

    def _fixed(self, name: str, places: Sequence[int]) -> None:
        self.register_buffer(name, torch.tensor(list(places), dtype=torch.int64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        lacking = x.float().isnan()
        x = torch.where(lacking, self.fill, x.float())
        standard = ((x[:, self.numbers] - self.mean) / self.std).clamp(-self.clip, self.clip)
        flags = torch.where(self.has_flag, x[:, self.told], torch.zeros_like(standard))
        standard = torch.where(lacking[:, self.numbers], torch.zeros_like(standard), standard * (1 - flags))
        seen = torch.where(lacking[:, self.flagged], torch.ones_like(x[:, self.flags]), x[:, self.flags])
        places = (x[:, self.sources] == self.codes).to(x.dtype)
        return torch.cat([standard, seen, places, 1 - places @ self.member], 1)


def _in_place(column: Mapping[str, Any]) -> float:
    """What stands for NaN in a column, before it is standardised: -1 is no category."""
    if column.get("categories") is not None or "codes" in column:
        names = list(column.get("categories") or ())
        return float(names.index(MISSING_CATEGORY)) if MISSING_CATEGORY in names else -1.0
    return float(column.get("mean", 0.0))


class Standardised(Around):
    """A network that takes the rows of a table as its data set gives them."""

    def __init__(self, net: nn.Module, columns: ColumnLayer):
        super().__init__(net)
        self.columns = columns

    def prepare(self, x: Tensor) -> Tensor:
        return self.columns(x)
