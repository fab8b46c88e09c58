#!/usr/bin/env python3
"""Times one step (value and gradient) of the divergences of kdx against their plain form, interleaved in one
process, and the memory that each takes beside the logits.

scripts/bench_divergence.py                     16 windows of 256 tokens, 32,000 of them in the vocabulary
scripts/bench_divergence.py --device cuda

  plain    as it is mostly written: softmax and log_softmax of both in float32, autograd does the rest
  kdx      kdx/core/divergence.py: a few positions at a time, the gradient in closed form
  of hidden states: the teacher's last layer is applied in the loss, plain to all positions at once
Peak: of the whole process (on a GPU of what torch allocates), less what it held with the logits laid down.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kdx.core.divergence import Divergence, divergence  # noqa: E402
from kdx.core.sparse_divergence import top_k, top_k_divergence  # noqa: E402
from kdx.training.memory import Peak  # noqa: E402

MIB = 1 << 20
FORWARD = Divergence("forward", 0.5, "smooth", 1.0)
HALFWAY = Divergence("jsd", 0.5, "smooth", 1.0)


def plain_forward(student: Tensor, teacher: Tensor) -> Tensor:
    log_q, log_p = student.float().log_softmax(-1), teacher.float().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def plain_halfway(student: Tensor, teacher: Tensor) -> Tensor:
    log_q, log_p = student.float().log_softmax(-1), teacher.float().log_softmax(-1)
    log_m = torch.logaddexp(log_q, log_p) - torch.log(torch.tensor(2.0))
    to_teacher = (log_p.exp() * (log_p - log_m)).sum(-1)
    to_student = (log_q.exp() * (log_q - log_m)).sum(-1)
    return 2 * (to_teacher + to_student).mean()


@dataclass
class Way:
    """One way to work something out. seconds: of each step; peak: bytes, of the largest."""

    name: str
    step: Callable[[Tensor, Tensor], Tensor]
    seconds: list[float] = field(default_factory=list)
    peak: int = 0
    value: float = 0.0


def measure(way: Way, student: Tensor, teacher: Tensor, device: str) -> None:
    student.grad = None
    gc.collect()  # what the last one left
    peak = Peak(device)
    peak.begin()
    before, begun = held(device), time.perf_counter()
    found = way.step(student, teacher)
    found.backward()
    way.value = found.item()
    way.seconds.append(time.perf_counter() - begun)
    way.peak = max(way.peak, (peak.bytes() or 0) - before)


def held(device: str) -> int:
    """Bytes that are held now."""
    if device.startswith("cuda"):
        return torch.cuda.memory_allocated(device)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--width", type=int, default=512, help="of the hidden states")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator = torch.Generator(args.device).manual_seed(0)
    shape = (args.windows, args.length, args.vocabulary)
    student, teacher = (
        torch.randn(shape, generator=generator, device=args.device, dtype=torch.bfloat16).mul_(3)
        for _ in range(2)
    )
    student.requires_grad_()
    states = torch.randn(
        (*shape[:2], args.width), generator=generator, device=args.device, dtype=torch.float16
    )
    head = torch.randn((args.vocabulary, args.width), generator=generator, device=args.device)
    head.mul_(3 * args.width**-0.5)
    few = teacher.reshape(-1, args.vocabulary)
    kept = [
        torch.cat(part) for part in zip(*(top_k(some, args.k, 1.0) for some in few.split(256)), strict=True)
    ]
    kept = [part.reshape(*shape[:2], *part.shape[1:]) for part in kept]
    groups = [
        [
            Way("forward, plain", plain_forward),
            Way("forward, kdx", lambda s, t: divergence(s, t, FORWARD).mean()),
            Way(f"forward of top {args.k} with the rest, kdx", lambda s, t: top_k_of(s, kept)),
        ],
        [
            Way("jsd, plain", plain_halfway),
            Way("jsd, kdx", lambda s, t: divergence(s, t, HALFWAY).mean()),
        ],
        [
            Way("forward of hidden states, plain", lambda s, t: plain_forward(s, states.float() @ head.T)),
            Way(
                "forward of hidden states, kdx", lambda s, t: divergence(s, states, FORWARD, head=head).mean()
            ),
        ],
    ]
    for ways in groups:
        for _ in range(args.repeats):
            for way in ways:
                measure(way, student, teacher, args.device)
    report(groups, args, student)


def top_k_of(student: Tensor, kept: list[Tensor]) -> Tensor:
    return top_k_divergence(student, *kept, FORWARD).mean()


def report(groups: list[list[Way]], args: argparse.Namespace, student: Tensor) -> None:
    logits = student.numel() * student.element_size() / MIB
    print(
        f"{args.windows} x {args.length} x {args.vocabulary:,} in bfloat16 ({logits:.0f} MiB each, and as "
        f"much for the gradient, which counts), {args.device}, {args.threads} thread(s), median of "
        f"{args.repeats}"
    )
    print("| | value | s | of plain | peak MiB | of plain |\n|---|---|---|---|---|---|")
    for first, *others in groups:
        for way in (first, *others):
            took, plain = median(way.seconds), median(first.seconds)
            print(
                f"| {way.name} | {way.value:.4f} | {took:.2f} | {took / plain:.2f} | {way.peak / MIB:,.0f} | "
                f"{way.peak / first.peak:.3f} |"
            )


if __name__ == "__main__":
    main()
