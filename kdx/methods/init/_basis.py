"""The directions of a table of embeddings that hold most of it."""

from __future__ import annotations

import torch
from torch import Tensor


def table_basis(table: Tensor, width: int, centre: bool) -> tuple[Tensor, float]:
    """(M, share): M (d, width) float64 has orthonormal columns, the right singular vectors of the largest
    singular values of the table (V, d), and `share` of its energy, the sum of squares, lies in them.

    Uncentred, as a mean that was taken off would need a bias in every layer behind it; centre: the mean row
    is taken off first, as PCA does. Each column's largest number is positive. At equal width M is the
    identity: all directions are kept, and no others are needed.
    """
    rows = table.cpu().double()
    if centre:
        rows = rows - rows.mean(0)
    if width == rows.shape[1]:
        return torch.eye(width, dtype=torch.float64), 1.0
    # of the triangle alone: the same right vectors, and small ones as exact as large ones
    triangle = torch.linalg.qr(rows, mode="r")[1]
    _, values, vectors = torch.linalg.svd(triangle, full_matrices=True)
    basis = vectors[:width].T
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    energy = values.square()
    share = energy[:width].sum() / energy.sum() if energy.sum() > 0 else torch.ones(())
    return basis * largest.sign(), share.item()
