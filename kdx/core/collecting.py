"""When Python looks for garbage: not while much is made that stays."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Inside, nothing is looked through for garbage."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def imported(name: str) -> ModuleType:
    """A module, whose import brings much with it: nothing of that is garbage, nor is it looked through
    later."""
    first = name not in sys.modules
    with uncollected():
        try:
            return import_module(name)
        finally:
            if first:
                gc.freeze()
