"""Passes with dropout, and the spread of their answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from kdx.core.task import Task
from kdx.core.types import Split
from kdx.data.streams import sequential
from kdx.store.work import Work
from kdx.training.runtime import Runtime

BATCH = 256


@dataclass(frozen=True)
class Passes:
    """Passes with dropout over `rows` of the pool, None: all. networks: several take turns."""

    task: Task
    networks: Sequence[nn.Module]
    passes: int
    seed: int
    rows: Tensor | None


@torch.inference_mode()
def write_spread(work: Work, runtime: Runtime, split: Split, asked: Passes) -> list[str]:
    """Names of the extras written: what `Task.spread` says of the answers with dropout alive.

    Each extra.<name>.npy is (N, ...) float32, nan for a row that was not asked. Several teachers take turns
    (Rizve et al. 2021, arXiv 2101.06329, have one, and 10 passes).
    """
    files: dict[str, np.ndarray] = {}
    torch.manual_seed(asked.seed)
    for batch in sequential(
        split, batch=BATCH, views=None, view=0, device=torch.device(runtime.device), rows=asked.rows
    ):
        index, answers = batch.index.cpu().numpy(), []
        for turn in range(asked.passes):
            with awake(asked.networks[turn % len(asked.networks)]) as network:
                answers.append(network(batch.views["main"]).float().cpu())
        for name, values in asked.task.spread(answers).items():
            whole = files.setdefault(name, np.full((len(split), *values.shape[1:]), np.nan, np.float32))
            whole[index] = values.numpy()
    for name, whole in files.items():
        np.save(work.path / f"extra.{name}.npy", whole)
    return list(files)


@contextlib.contextmanager
def awake(network: nn.Module) -> Iterator[nn.Module]:
    """The network in eval mode but for its dropout."""
    layers = [m for m in network.modules() if isinstance(m, nn.Dropout | nn.Dropout2d)]
    for layer in layers:
        layer.train()
    try:
        yield network
    finally:
        for layer in layers:
            layer.eval()
