"""probe: which precision trains this network faster on this machine. Its answer is stored, so that
`precision: auto` means one thing.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from kdx.core.math import cross_entropy
from kdx.pipeline.stages.files import new_network
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.store import Work
from kdx.training.runtime import Runtime

STEPS, _FEW = 3, 8
HOPELESS = 4.0
"""A precision that is so many times slower on a few pictures is not tried on a batch."""


def run(
    work: Work, runtime: Runtime, *, data: Artifact, model: Component, batch_size: int, machine: str
) -> None:
    """Files: probe.json {"precision": "fp32" | "bf16", "seconds": {precision: median of one training step}},
    of those tried.
    """
    if runtime.device == "mps":
        work.write_json("probe.json", {"precision": "fp32", "seconds": {}})
        return
    about = data.json("data.json")
    with torch.random.fork_rng():
        network = runtime.place(new_network(model, about, read_weights=False)).train()
        pictures = torch.rand(batch_size, *about["shape"], device=runtime.device)
        y = torch.randint(len(about["classes"]), (batch_size,), device=runtime.device)
    # without instructions for it a bf16 step takes ten times as long as one in fp32: that shows on a few
    # pictures too
    rows = slice(0, _FEW)
    few = {
        p: [step(network, pictures[rows], y[rows], runtime, p) for _ in range(2)][1] for p in ("fp32", "bf16")
    }
    running = [p for p in few if few[p] < HOPELESS * few["fp32"]]
    rounds = [{p: step(network, pictures, y, runtime, p) for p in running} for _ in range(STEPS + 1)]
    medians = {p: sorted(r[p] for r in rounds[1:])[STEPS // 2] for p in running}
    work.write_json("probe.json", {"precision": min(medians, key=medians.__getitem__), "seconds": medians})


def step(network: nn.Module, pictures: Tensor, y: Tensor, runtime: Runtime, precision: str) -> float:
    """Seconds of one training step, the optimiser apart."""
    start = time.perf_counter()
    with runtime.autocast(precision):
        loss = cross_entropy(network(pictures), y).mean()
    loss.backward()
    loss.item()
    return time.perf_counter() - start
