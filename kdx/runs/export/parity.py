"""Whether an exported network answers as the original does, on real rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kdx.core.levels import as_float
from kdx.core.trees import joined, leaves, part_of, rows_of, tree
from kdx.core.types import Answers, Inputs
from kdx.pipeline.stages.arrays import open_split
from kdx.runs.export.formats import Answerer
from kdx.store.artifact import Artifact
from kdx.training.runtime import Runtime

_ROWS = 256
"""Rows that the formats are compared on, at most; in batches of several sizes, as a fixed batch size is
an exporter's favourite error.
"""
BATCHES = (1, 2, 7, 64)
TOLERANCE, _LEAST = 1e-4, 1e-6
"""Largest difference of a number of an answer, as a share of the largest, and never below LEAST. Sums in
another order differ by about 1e-6.
"""


class Unlike(Exception):
    """An exported network answers differently from the original."""


@torch.no_grad()
def check_parity(
    name: str, network: Answerer, answer: Answerer, rows: Inputs, *, classes: bool = True
) -> dict[str, Any]:
    """Both networks on the same rows, in batches of several sizes. Raises Unlike beyond TOLERANCE, or
    where an answer is not finite. classes: whether the numbers of a row are logits of classes.
    """
    original, other = [], []
    for some in batches(rows):
        original.append(network(some))
        other.append(answer(some))
    wanted, given = in_one(joined(original)), in_one(joined(other))
    if given.shape != wanted.shape or not torch.isfinite(given).all():
        raise Unlike(
            f"the {name} export gives answers of {tuple(given.shape)}, {int(torch.isfinite(given).sum())} of "
            f"them finite, where the original gives {tuple(wanted.shape)}; nothing was written"
        )
    difference, largest = (given - wanted).abs().max().item(), wanted.abs().max().item()
    tolerance = max(_LEAST, TOLERANCE * largest)
    if not difference <= tolerance:
        raise Unlike(
            f"the {name} export answers differently from the original: a number differs by {difference:.3g} "
            f"on {len(wanted)} real rows, and {tolerance:.3g} is allowed; nothing was written"
        )
    found = {"rows": len(wanted), "max_abs_difference": difference, "tolerance": tolerance}
    if not classes:
        return {**found, "largest_number": largest}
    same = (given.argmax(1) == wanted.argmax(1)).double().mean().item()
    return {**found, "largest_logit": largest, "argmax_agreement": same}


def in_one(answers: Answers) -> Tensor:
    """(N, D) float64: all numbers of a row."""
    return torch.cat([leaf.double().flatten(1) for leaf in leaves(answers).values()], 1)


def batches(rows: Inputs) -> Iterator[Inputs]:
    sizes, start = list(BATCHES), 0
    while start < rows_of(rows):
        count = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        yield part_of(rows, start, count)
        start += count


def real_rows(data: Artifact) -> tuple[str, Inputs]:
    """(name of the split, rows as a network sees them): the first of validation, of test where nothing
    validates, or of those that were learned from, where a part of the data has no other.
    """
    cpu = Runtime(
        device="cpu", threads="auto", workers=0, channels_last=False, compile=False, checkpoint_seconds=0
    )
    found = (open_split(data, name, cpu) for name in ("validation", "test", "labelled"))
    split = next(split for split in found if split is not None)
    return split.name, tree(as_float, part_of(split.inputs, 0, _ROWS))
