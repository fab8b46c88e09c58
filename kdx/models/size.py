"""How large and how slow a network is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

WARM_UP, ROUNDS = 5, 30


def parameters(module: nn.Module) -> int:
    """Numbers that training may change."""
    return sum(p.numel() for p in module.parameters())


def bytes(module: nn.Module) -> int:
    """Bytes of the state dict's tensors: parameters and buffers, each in its own precision."""
    return sum(t.numel() * t.element_size() for t in module.state_dict().values())


def flops(module: nn.Module, shape: tuple[int, int, int]) -> int:
    """Operations of one forward of one picture of `shape` (C, H, W): twice the multiply-adds of convolutions and matrix products."""
    device = next(module.parameters()).device
    # The fused attention of eval mode is one operation that the counter does not know; its parts are counted instead.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _evaluating([module]), torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(torch.zeros(1, *shape, device=device))
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return counter.get_total_flops()


def latency(modules: Mapping[str, nn.Module], shape: tuple[int, int, int], device: torch.device | str) -> dict[str, float]:
    """Milliseconds of one picture's forward, the median of 30, for each module; they are moved to `device`.

    The modules take turns, so that a busy moment of the machine does not fall on one of them alone.
    """
    device = torch.device(device)
    x = torch.rand(1, *shape, device=device)
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
