"""How large and how slow a network is."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from kdx.core import capacity, checks
from kdx.core.trees import Tree, moved
from kdx.core.uncompiled import uncompiled_method

WARM_UP, ROUNDS = 5, 30


@dataclass(frozen=True)
class Held:
    """What a network takes of the memory. copies: how often each weight will be held: in training its
    gradient and the optimiser's two averages as well. what, remedy: how it is called where it does not fit,
    and what to do.
    """

    copies: int = 1
    what: str = "this network"
    remedy: str = "make it smaller"


class within_memory(TorchFunctionMode):
    """Inside, tensors made with nothing in them, as layers make their weights, are added up before they are
    made: a UserError where they would not fit.
    """

    def __init__(self, held: Held):
        super().__init__()
        self.bytes, self.held = 0, held

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.empty:
            sides = args[0] if args and isinstance(args[0], list | tuple) else args
            self.bytes += (
                math.prod(side for side in sides if isinstance(side, int))
                * ((kwargs or {}).get("dtype") or torch.get_default_dtype()).itemsize
            )
            with checks.whole():
                copies, what = self.held.copies, self.held.what
                times = f" ({copies} times each weight, to train it)" if copies > 1 else ""
                capacity.fits(f"{what}{times}", copies * self.bytes, self.held.remedy)
        return function(*args, **(kwargs or {}))


def smaller(role: str, spec: Mapping[str, Any]) -> str:
    """How to make the network of a role smaller: by its keys that hold whole numbers, where it has some."""

    def counts(value: Any) -> bool:
        return any(map(counts, value)) if isinstance(value, list) else type(value) is int

    keys = (
        []
        if role.startswith("assistant")
        else [f"{role}.{key}" for key, value in spec.items() if counts(value)]
    )
    return f"lower {' or '.join(keys)}, or choose another" if keys else "choose a smaller one"


def parameters(module: nn.Module) -> int | None:
    """Numbers that training may change; None where the module is fitted at once, or holds one that is
    (`Estimator`): what a forest has learned is no count of them.
    """
    return None if _has_fitted(module) else sum(p.numel() for p in module.parameters())


def _has_fitted(module: nn.Module) -> bool:
    return any(getattr(inner, "fitted_at_once", False) for inner in module.modules())


def most_parameters(modules: Sequence[nn.Module]) -> int | None:
    """Parameters of the largest, None where those of one are not counted."""
    counts = [parameters(module) for module in modules]
    return None if None in counts else max(count for count in counts if count is not None)


def bytes(module: nn.Module) -> int:
    """Bytes of the state dict's tensors: parameters and buffers, each in its own precision."""
    return sum(t.numel() * t.element_size() for t in module.state_dict().values())


def flops(module: nn.Module, row: Tree) -> int | None:
    """Operations of one forward of one row, as the network reads it: twice the multiply-adds of convolutions
    and matrix products. None as for `parameters`: torch does not see those of a forest.
    """
    if _has_fitted(module):
        return None
    device = next(chain(module.parameters(), module.buffers()), torch.zeros(())).device
    with (
        _evaluating([module]),
        _in_parts(),
        torch.no_grad(),
        FlopCounterMode(display=False, custom_mapping=RECURRENT) as counter,
        uncompiled_method(type(counter.mode).__torch_dispatch__),
    ):
        module(moved(row, device))
    return counter.get_total_flops()


def _recurrent(x: Sequence[int], *weights: Sequence[int]) -> int:
    """Of a layer over all steps of a sequence, from shapes: x (T, B, I) or (B, T, I), of weights and biases
    the matrices count.
    """
    return 2 * math.prod(x[:-1]) * sum(math.prod(weight) for weight in weights if len(weight) == 2)


RECURRENT = {
    torch.ops.aten.mkldnn_rnn_layer: lambda x, w1, w2, *rest, **more: _recurrent(x, w1, w2),
    torch.ops.aten._cudnn_rnn: lambda x, weights, *rest, **more: _recurrent(x, *weights),
}
"""Fused layers that torch's counter does not know; which kernel torch takes hangs on the processor and the
version.
"""


@contextmanager
def _in_parts() -> Iterator[None]:
    """Attention as matrix products, whatever kernel torch would take: of the fused ones the counter knows a
    few only.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def latency(modules: Mapping[str, nn.Module], row: Tree, device: torch.device | str) -> dict[str, float]:
    """Milliseconds of one row's forward, the median of 30, for each module; they are moved to `device`.

    The modules take turns, so that a busy moment of the machine does not fall on one of them alone.
    """
    device = torch.device(device)
    x = moved(row, device)
    times: dict[str, list[float]] = {name: [] for name in modules}
    for module in modules.values():
        module.to(device)
    with _evaluating(modules.values()), torch.inference_mode():
        for i in range(WARM_UP + ROUNDS):
            for name, module in modules.items():
                _wait(device)
                start = time.perf_counter()
                module(x)
                _wait(device)
                if i >= WARM_UP:
                    times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def _wait(device: torch.device) -> None:
    """Accelerators answer before they have computed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def _evaluating(modules) -> Iterator[None]:
    """Eval mode inside, each part's own mode again after."""
    were = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for part, _ in were:
            part.training = False
        yield
    finally:
        for part, training in were:
            part.training = training
