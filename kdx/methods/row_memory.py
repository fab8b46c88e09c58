"""What networks answered to each row before: running averages by row, for methods whose targets are averages
over epochs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kdx.core.trees import moved


class RowMemory(nn.Module):
    """Of each row of some streams the running average of K tables of C numbers, as temporal ensembling has it
    (Laine and Aila 2017, arXiv 1610.02242): Z = a Z + (1 - a) z, given as Z / (1 - a^t) after t visits.

    It lies in buffers, and so in the checkpoint: 4 K C bytes a row. smoothing: a in [0, 1); 0 remembers the
    last visit alone.
    """

    def __init__(self, rows: Mapping[str, int], count: int, width: int, smoothing: float):
        """rows: stream -> rows of its split."""
        super().__init__()
        self.smoothing = smoothing
        for stream, size in rows.items():
            self.register_buffer(f"sums_{stream}", torch.zeros(size, count, width))
            self.register_buffer(f"visits_{stream}", torch.zeros(size))

    @torch.no_grad()
    def visit(self, stream: str, index: Tensor, now: Tensor, *, keep: bool) -> Tensor:
        """(B, K, C) of the rows `index` (B,), shown now -> (B, K, C), the averages with these among them.
        keep: whether they are remembered.
        """
        sums, visits = getattr(self, f"sums_{stream}"), getattr(self, f"visits_{stream}")
        place = moved(index, sums.device)
        new = self.smoothing * sums[place] + (1 - self.smoothing) * now.float()
        times = visits[place] + 1
        if keep:
            sums[place], visits[place] = new, times
        return new / (1 - self.smoothing**times)[:, None, None]
