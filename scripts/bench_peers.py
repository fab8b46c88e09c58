#!/usr/bin/env python3
"""Times one step of K networks that learn together against K that learn one after another, interleaved in one
process, and what each keeps in memory.

scripts/bench_peers.py                              resnet20, 3 peers, 64 pictures of 3x32x32
scripts/bench_peers.py --model cnn --peers 2 --device cuda

  one after another   K networks, each with loss=supervised: a step of each
  mutual              loss=mutual: K networks, the same batch
  collaborative       loss=collaborative: K heads on one trunk
State: weights, gradients and AdamW's two moments, of all that is held at once; one after another that is one
network's. Kept: what a forward pass leaves for the pass back, likewise.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kdx import models  # noqa: E402
from kdx.config.options import read_option  # noqa: E402
from kdx.core.paths import conf_dir  # noqa: E402
from kdx.core.types import Batch, Objective, Parts  # noqa: E402
from kdx.methods.losses.collaborative import Collaborative  # noqa: E402
from kdx.methods.losses.mutual import Mutual  # noqa: E402
from kdx.methods.losses.supervised import Supervised  # noqa: E402
from kdx.store.component import Component  # noqa: E402
from kdx.tasks.classification import Classification  # noqa: E402

MIB = 1 << 20
CLASSES = 10
SHAPE = (3, 32, 32)
_KEPT = 4
"""Numbers for each parameter: itself, its gradient and two moments."""


@dataclass
class Way:
    """One way to train K networks. turns: what one step of each is made of, one after the other."""

    name: str
    turns: list[tuple[Objective, torch.optim.Optimizer]]
    seconds: list[float] = field(default_factory=list)
    kept: int = 0

    @property
    def state(self) -> int:
        """Bytes of the largest turn."""
        return max(
            _KEPT * sum(p.numel() * p.element_size() for p in made.parameters()) for made, _ in self.turns
        )


def network(args: argparse.Namespace) -> nn.Module:
    described = Component(read_option(conf_dir() / "model" / f"{args.model}.yaml"))
    channels = SHAPE[0]
    made = models.build(described, shape=SHAPE, classes=CLASSES, mean=[0.5] * channels, std=[0.25] * channels)
    return made.to(args.device)


def way(name: str, args: argparse.Namespace, *made: Callable[[Parts], Objective]) -> Way:
    turns = []
    for build in made:
        task = Classification(classes=[str(c) for c in range(CLASSES)])
        example = torch.zeros(1, *SHAPE, device=args.device)
        parts = Parts(network(args), lambda: network(args), None, [], None, task, example=example)
        objective = build(parts).to(args.device).train()
        turns.append((objective, torch.optim.AdamW(objective.parameters(), 1e-3, fused=True)))
    return Way(name, turns)


def kept_for_backward(objective: Objective, batch: Batch) -> int:
    """Bytes of what a forward pass leaves for the pass back, without the weights."""
    weights = {p.untyped_storage().data_ptr() for p in objective.parameters()}
    found: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        objective({"labelled": batch}, 0.5).loss.backward()
    return sum(storage.nbytes() for place, storage in found.items() if place not in weights)


def measure(found: Way, batch: Batch, device: str) -> None:
    begun = time.perf_counter()
    for objective, optimiser in found.turns:
        optimiser.zero_grad(set_to_none=True)
        objective({"labelled": batch}, 0.5).loss.backward()
        optimiser.step()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    found.seconds.append(time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--peers", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    count = args.peers
    mutual = dict(architectures=None, weight=1.0, rate=1.0, export="first")
    together = dict(branch_at="auto", temperature=2.0, beta=0.5, rate=1.0)
    ways = [
        way("one after another", args, *[Supervised] * count),
        way("mutual", args, lambda parts: Mutual(parts, peers=count, **mutual)),
        way("collaborative", args, lambda parts: Collaborative(parts, heads=count, **together)),
    ]
    rows = torch.arange(args.batch)
    shown = torch.rand(args.batch, *SHAPE).to(args.device)
    batch = Batch("labelled", rows, rows, {"main": shown}, (rows % CLASSES).to(args.device))
    for step in range(args.steps + 1):
        for found in ways:
            measure(found, batch, args.device)
            if not step:  # the first is not like the others
                found.seconds.clear()
                found.kept = max(kept_for_backward(made, batch) for made, _ in found.turns)
    report(ways, args)


def report(ways: list[Way], args: argparse.Namespace) -> None:
    print(
        f"{args.peers} x {args.model}, batches of {args.batch}, {args.device}, {args.threads} thread(s), "
        f"median of {args.steps} steps"
    )
    print("| | ms a step | of one after another | state MiB | kept MiB |\n|---|---|---|---|---|")
    first = median(ways[0].seconds)
    for found in ways:
        took = median(found.seconds)
        print(
            f"| {found.name} | {1000 * took:.1f} | {took / first:.2f} | {found.state / MIB:.1f} | "
            f"{found.kept / MIB:.0f} |"
        )


if __name__ == "__main__":
    main()
