"""Rows of a batch that several processes share: what one of them has computed of its own rows, made whole
again. Where one process works alone nothing happens here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from weakref import WeakSet

from torch import Tensor, nn

Gather = Callable[[Tensor], Tensor]
"""(b, ...) of this process's rows -> (B, ...) of all rows, in their order, with the gradient of these."""
_shared: WeakSet[nn.Module] = WeakSet()
_gather: list[Gather] = []


@contextlib.contextmanager
def gathering(shared: nn.Module, gather: Gather) -> Iterator[None]:
    """Inside, the parts of `shared`, a network that sees the rows of this process alone, have their hidden
    features gathered."""
    parts = list(shared.modules())
    _shared.update(parts)
    _gather.append(gather)
    try:
        yield
    finally:
        _gather.pop()
        _shared.difference_update(parts)


@contextlib.contextmanager
def by_itself() -> Iterator[None]:
    """Inside, this process answers whole batches by itself, as none of the others asks meanwhile."""
    held = _gather[:]
    _gather.clear()
    try:
        yield
    finally:
        _gather.extend(held)


def is_shared() -> bool:
    """Whether rows are shared just now."""
    return bool(_gather)


def of_all_rows(module: nn.Module, seen: Tensor) -> Tensor:
    """What went into or came out of a module, of all rows of the batch."""
    return _gather[-1](seen) if _gather and module in _shared else seen
