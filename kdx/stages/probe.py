"""probe: which precision trains this network faster on this machine. Its answer is stored, so that `precision: auto` means one thing."""

from __future__ import annotations

import time

import torch

from kdx.artifact import Artifact
from kdx.component import Component
from kdx.functional import cross_entropy
from kdx.runtime import Runtime
from kdx.stages.files import new_network
from kdx.store import Work

STEPS = 3


def worth_trying(device: str) -> bool:
    """Whether bf16 can be faster here. A processor without bf16 instructions emulates it, ten times slower or worse."""
    if device == "cpu":
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)


def run(work: Work, runtime: Runtime, *, data: Artifact, model: Component, batch_size: int, machine: str) -> None:
    """Files: probe.json {"precision": "fp32" | "bf16", "seconds": {precision: median of one training step}}."""
    if not worth_trying(runtime.device):
        work.write_json("probe.json", {"precision": "fp32", "seconds": {}})
        return
    about = data.json("data.json")
    with torch.random.fork_rng():
        network = runtime.place(new_network(model, about)).train()
        pictures = torch.rand(batch_size, *about["shape"], device=runtime.device)
        y = torch.randint(len(about["classes"]), (batch_size,), device=runtime.device)
    seconds: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for _ in range(STEPS + 1):
        for precision, times in seconds.items():
            start = time.perf_counter()
            with runtime.autocast(precision):
                loss = cross_entropy(network(pictures), y).mean()
            loss.backward()
            loss.item()
            times.append(time.perf_counter() - start)
    medians = {p: sorted(t[1:])[STEPS // 2] for p, t in seconds.items()}
    work.write_json("probe.json", {"precision": min(medians, key=medians.__getitem__), "seconds": medians})
