"""What torch does for its compiler, left out where nothing is compiled.

An optimiser of torch imports `torch._dynamo` when it is built and at each step, and the counter of operations
when it counts, so that the compiler knows to leave them alone. That takes over a second of processor time, a
twentieth of a short run. torch names what it wraps (`functools.wraps`), and that is called in its place; in a
version that does not name it, all is as torch made it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import Optimizer


@functools.cache
def uncompiled(kind: type[Any]) -> type[Any]:
    """The same class of optimisers, with the same steps, for code that compiles none, nor asks for the names
    of steps in torch's profiler or for hooks around them.
    """
    own: dict[str, Any] = {
        name: inspect.unwrap(method) for name, method in vars(Optimizer).items() if inspect.isfunction(method)
    }
    own = {name: plain for name, plain in own.items() if plain is not vars(Optimizer)[name]}
    plain_step: Any = inspect.unwrap(kind.step)

    def step(self: Optimizer, closure: Any = None) -> Any:
        with torch.no_grad():
            return plain_step(self, closure)

    vars(step)["hooked"] = True  # torch wraps it no further
    return type(kind.__name__, (kind,), {**own, "step": step, "__module__": kind.__module__})


@contextmanager
def uncompiled_method(method: Callable[..., Any]) -> Iterator[None]:
    """Inside, a method that torch keeps out of compiled functions (`torch._disable_dynamo`) is called as it
    is, whoever calls it.
    """
    plain, kept = inspect.unwrap(method), "__dynamo_disable"
    if kept in vars(plain):  # the compiler has been imported
        yield
        return
    vars(plain)[kept] = plain
    try:
        yield
    finally:
        vars(plain).pop(kept, None)
