"""What stops in the middle of its work, as with Ctrl-C."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest


@contextlib.contextmanager
def stopped_at(call: int, module: ModuleType, name: str) -> Iterator[None]:
    """Inside, that call of a function of the module, counted from 1, is an interrupt."""
    usual, calls = getattr(module, name), []

    def stopping(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == call:
            raise KeyboardInterrupt
        return usual(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, stopping)
        yield
