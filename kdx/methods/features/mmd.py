"""Maximum mean discrepancy between the features of two domains (Gretton et al. 2012, JMLR 13; as a
layer's loss Long, Cao, Wang and Jordan 2015, arXiv 1502.02791).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdx.core.checks import number, refuse
from kdx.core.types import Features, Parts, Shown
from kdx.methods.two_domains import source_and_target
from kdx.models.row_features import StudentRows, in_full

_LEAST = 1e-12
"""Below this the median of squared distances is taken for it: then all rows are one."""


def squared_distances(rows: Tensor) -> Tensor:
    """(N, D) -> (N, N), 0 on the diagonal."""
    squares = rows.square().sum(1)
    found = (squares[:, None] + squares - 2 * rows @ rows.T).clamp_min(0)
    return found * (1 - torch.eye(len(found), dtype=found.dtype, device=found.device))


def median_of_pairs(rows: Tensor) -> Tensor:
    """(N, D) -> (): the median of the squared distances of two rows, of an even number of pairs the lower
    one, without gradient: the heuristic for the width of a kernel."""
    first, second = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
    return squared_distances(rows.detach())[first, second].median().clamp_min(_LEAST)


def mmd(source: Tensor, target: Tensor, widths: Sequence[float | Tensor]) -> Tensor:
    """(S, D), (T, D) -> () >= 0: mean k(s, s') + mean k(t, t') - 2 mean k(s, t), over all pairs, those of a
    row with itself too; k(x, y) is the mean over the widths w > 0 of exp(-|x - y|^2 / w).

    This is the biased estimate of MMD^2 (Gretton et al. 2012, equation 5): 0 for equal sets, and of two
    samples of one distribution above 0 by about (1/S + 1/T)(1 - E k). The unbiased one may be negative.
    """
    squares, n = squared_distances(torch.cat([source, target])), len(source)
    kernel = torch.stack([(-squares / width).exp() for width in widths]).mean(0)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


class MMD(Features):
    """term mmd = weight * `mmd` of what one layer of the student makes of labelled and of pool rows, with
    widths of `powers` times `median_of_pairs` of all of them.

    weight >= 0: 0 is no term. powers: numbers > 0, one for each Gaussian kernel. layer: its name, or "auto",
    what the last linear layer sees. No teacher is read. Deviations from Long et al.: one layer, in a batch
    all pairs in place of their estimate of linear cost, and kernels of equal weight. Cost: (S + T)^2 numbers
    a kernel.
    """

    reads = ()
    whole_batch = True
    least_rows = 2

    def __init__(self, parts: Parts, *, weight: float, powers: Sequence[float], layer: str):
        super().__init__()
        self.weight = number("loss.features.mmd.weight", weight, low=0)
        if not isinstance(powers, Sequence) or isinstance(powers, str) or not powers:
            refuse(f"loss.features.mmd.powers must be a list of numbers, such as [0.5,1,2]; given: {powers}")
            powers = [1.0]
        self.powers = [number("loss.features.mmd.powers", p, low=0, open_low=True) for p in powers]
        self.rows = StudentRows(parts, layer=layer)

    def forward(self, shown: Shown) -> Mapping[str, Tensor]:
        feature = self.rows.take()
        source, target = source_and_target("mmd", feature, shown, 1)
        with in_full(feature):
            median = median_of_pairs(torch.cat([source, target]))
            widths = [power * median for power in self.powers]
            return {"mmd": self.weight * mmd(source, target, widths)}
