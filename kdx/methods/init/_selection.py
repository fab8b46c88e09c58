"""Uniform selection: evenly spaced numbers of a larger network for a smaller one (Xu et al. 2023, arXiv
2311.18823), such that what belongs together stays together.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from kdx.models.parts import HIDDEN, KEYS, QUERIES, WIDTH, LabelledTensor, TransformerParts


def uniform_indices(size: int, wanted: int) -> Tensor:
    """(wanted,) ascending places of `size`, evenly spaced. Where `wanted` divides `size`, every
    (size / wanted)-th from 0; else from the first to the last, rounded, halves to even."""
    if not 1 <= wanted <= size:
        raise ValueError(f"{wanted} of {size} places")
    if size % wanted == 0:
        return torch.arange(wanted) * (size // wanted)
    return torch.tensor([round(Fraction(i * (size - 1), wanted - 1)) for i in range(wanted)])


def in_head_indices(size: int, wanted: int, rotary: bool) -> Tensor:
    """(wanted,) numbers of a head of `size`. rotary: numbers i and i + size/2 are turned together, so pairs
    are selected."""
    if not rotary:
        return uniform_indices(size, wanted)
    first = uniform_indices(size // 2, wanted // 2)
    return torch.cat([first, first + size // 2])


def head_indices(heads: tuple[int, int], kv_heads: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(which heads of queries, which of keys and values). heads, kv_heads: (teacher's, student's).

    Where the student's groups (heads that share keys and values) are no larger than the teacher's, groups are
    selected and then heads in each, so that every head keeps the keys that it had. Else heads are selected,
    and each group gets the keys of its first one.
    """
    (of, wanted), (kv_of, kv_wanted) = heads, kv_heads
    group, kept = of // kv_of, wanted // kv_wanted
    if kept <= group and kv_wanted <= kv_of:
        keys = uniform_indices(kv_of, kv_wanted)
        return (keys[:, None] * group + uniform_indices(group, kept)).flatten(), keys
    queries = uniform_indices(of, wanted)
    return queries, queries[::kept] // group


def selected_indices(student: TransformerParts, teacher: TransformerParts) -> dict[str, Tensor]:
    """Of each axis that parts have by name: which of the teacher's numbers the student gets."""
    queries, keys = head_indices((teacher.heads, student.heads), (teacher.kv_heads, student.kv_heads))
    inside = in_head_indices(teacher.head_width, student.head_width, teacher.rotary)

    def of_heads(heads: Tensor) -> Tensor:
        return (heads[:, None] * teacher.head_width + inside).flatten()

    return {
        WIDTH: uniform_indices(teacher.width, student.width),
        HIDDEN: uniform_indices(teacher.hidden, student.hidden),
        QUERIES: of_heads(queries),
        KEYS: of_heads(keys),
    }


def selected(
    part: LabelledTensor, like: Tensor, indices: Mapping[str, Tensor], basis: Tensor | None = None
) -> Tensor:
    """The numbers of a teacher's part that a student's of shape `like` gets, in float64 on the CPU.

    basis: (teacher's width, student's width), by which the stream is multiplied in place of selection. Rows
    of a table are the first ones.
    """
    found = part.tensor.cpu().double()
    for axis, counts in enumerate(part.axes):
        if counts == WIDTH and basis is not None:
            found = torch.tensordot(found, basis, ([axis], [0])).movedim(-1, axis)
        elif counts in indices:
            found = found.index_select(axis, indices[counts])
        else:
            found = found.narrow(axis, 0, like.shape[axis])
    return found
