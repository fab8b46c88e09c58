"""What a row holds: one array, or a few by name (tokens and mask, left and right). The few functions that
look at which of the two it is. Tensors and numpy arrays alike, where a docstring does not say otherwise;
importing it costs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Tree: TypeAlias = "Tensor | Mapping[str, Tensor]"
"""One tensor, or several by name; the first axis of each is the rows."""


_WAITS = ("cpu", "mps")
"""Kinds of devices to which a copy is waited for."""


class SharedRows:
    """One tensor that all rows share, in the place of one a row: it takes the room of one. lead: how many
    rows there are, and whatever axes come before those of the tensor.

    It knows its shape, device and type, and is picked from as an array or a tensor of rows is.
    """

    def __init__(self, one: Tensor, lead: tuple[int, ...]):
        self._one, self._lead = one, tuple(lead)

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self._lead, *self._one.shape)

    @property
    def device(self) -> torch.device:
        return self._one.device

    @property
    def dtype(self) -> torch.dtype:
        return self._one.dtype

    def __len__(self) -> int:
        return self._lead[0]

    def __getitem__(self, rows: Any) -> SharedRows:
        """rows: what numpy takes for the axes of `lead`."""
        return SharedRows(self._one, np.broadcast_to(np.False_, self._lead)[rows].shape)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """dim: 0"""
        if dim:
            raise IndexError(f"rows lie along the axis 0; asked for {dim}")
        return SharedRows(self._one, (len(index), *self._lead[1:])).tensor()

    def flatten(self, first: int, last: int) -> SharedRows:
        """first, last: 0 and 1. (N, V, ...) -> (N V, ...)"""
        if (first, last) != (0, 1):
            raise IndexError(f"the axes 0 and 1 become one; asked for {first} to {last}")
        return SharedRows(self._one, (self._lead[0] * self._lead[1], *self._lead[2:]))

    def tensor(self) -> Tensor:
        """(*lead, ...), a view."""
        return self._one.expand(self.shape)


def tensor_of_rows(rows: Any) -> Tensor:
    """A tensor of rows that numpy gives; of `SharedRows` the one that they share."""
    import torch

    return rows.tensor() if isinstance(rows, SharedRows) else torch.from_numpy(np.array(rows))


def tree(function: Callable[[Any], Any], value: Any) -> Any:
    """The function of the array, or of each of the arrays by name."""
    return (
        {name: function(leaf) for name, leaf in value.items()}
        if isinstance(value, Mapping)
        else function(value)
    )


def leaves(value: Any) -> dict[str, Any]:
    """The arrays by name; a single one is called ""."""
    return dict(value) if isinstance(value, Mapping) else {"": value}


def from_leaves(found: Mapping[str, Any]) -> Any:
    """What `leaves` took apart."""
    return found[""] if set(found) == {""} else dict(found)


def rows_of(value: Any) -> int:
    """How many rows there are."""
    return len(next(iter(value.values())) if isinstance(value, Mapping) else value)


def joined(parts: Sequence[Any]) -> Any:
    """Batches one after the other. A single one is given as it is, without a copy, and rows that share one
    tensor share it again."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], Mapping):
        return {name: joined([part[name] for part in parts]) for name in parts[0]}
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(list(parts))
    import torch

    if all(map(_of_one, parts)) and len({part.data_ptr() for part in parts}) == 1:
        return parts[0][:1].expand(sum(map(len, parts)), *parts[0].shape[1:])
    if parts[0].dtype == torch.float16:  # as answers are stored: autocast to another type puts none together
        with torch.autocast(parts[0].device.type, enabled=False):
            return torch.cat(list(parts))
    return torch.cat(list(parts))


def divided(value: Any, sizes: Sequence[int]) -> list[Any]:
    """The first rows, the next, and so on: what `joined` put together, apart again. value: tensors; sizes:
    rows of each.
    """
    if isinstance(value, Mapping):
        split = {name: leaf.split(list(sizes)) for name, leaf in value.items()}
        return [{name: parts[i] for name, parts in split.items()} for i in range(len(sizes))]
    return list(value.split(list(sizes)))


def all_finite(value: Any) -> bool:
    """Whether no number in the tensors is NaN or infinite."""
    found = (leaf[:1] if _of_one(leaf) else leaf for leaf in leaves(value).values())
    return all(bool(leaf.isfinite().all()) for leaf in found)


def _of_one(leaf: Tensor) -> bool:
    """Whether all rows lie in the same place, as those of `SharedRows` do."""
    return leaf.dim() > 1 and (len(leaf) == 1 or (len(leaf) > 1 and leaf.stride(0) == 0))


def device_of(value: Any) -> torch.device:
    """Where the tensors lie."""
    found: torch.device = next(iter(leaves(value).values())).device
    return found


def part_of(value: Any, start: int, rows: int) -> Any:
    """So many rows from one on."""
    return tree(lambda leaf: leaf[start : start + rows], value)


def moved(value: Any, device: torch.device | str) -> Any:
    """The same tensors on a device. From the processor to an accelerator they go by way of pinned memory, and
    neither waits for the copy."""
    kind = device.partition(":")[0] if isinstance(device, str) else device.type

    def one(leaf: Any) -> Any:
        if leaf.device.type != "cpu" or kind in _WAITS:
            return leaf.to(device)
        return (leaf.pin_memory() if kind == "cuda" else leaf).to(device, non_blocking=True)

    return tree(one, value)


def picked(value: Any, rows: Tensor | np.ndarray | slice) -> Any:
    """These rows, by their numbers or as a slice."""
    return tree(lambda leaf: leaf[rows], value)
