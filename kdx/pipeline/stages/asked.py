"""What is answered: which rows and views of which split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdx.pipeline.stages.answers import CLEAN, SAMPLE, SAMPLED

MIXUP = "mixup"


def to_answer(
    counts: Mapping[str, int], views: Mapping[str, int], clean: bool, whole: bool, augment: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """file -> (views of each row, the first of them). whole: the whole pool is answered, clean as well.
    augment: names of the steps.

    Of mixed rows no answer belongs to a row, so that nothing could be distinguished from answers to them.
    """
    wanted = {name: (1, 0) if clean else (count, 1) for name, count in views.items() if counts.get(name)}
    moved = bool(augment) and not clean and MIXUP not in augment
    if counts.get("validation"):
        wanted["validation"] = (2 if moved else 1, 0)
    if whole and counts.get("unlabelled") and not (clean and "unlabelled" in wanted):
        wanted[CLEAN] = (1, 0)
        if moved and not views:
            wanted[SAMPLE] = (1, 1)
    return wanted


def split_of(file: str) -> str:
    """The split whose rows a file answers."""
    return "unlabelled" if file in (CLEAN, SAMPLE) else file


def rows_answered(file: str, counts: Mapping[str, int], asked: int) -> int:
    """How many rows a file answers. asked: of the pool, where answers are bought."""
    return {CLEAN: counts["unlabelled"], SAMPLE: min(SAMPLED, counts["unlabelled"]), "unlabelled": asked}.get(
        file
    ) or counts[file]


def places_of(rows: Tensor, n: int) -> Tensor:
    """(n,) int64: the place of each row among `rows`, -1 where it is not there."""
    places = torch.full((n,), -1)
    places[rows] = torch.arange(len(rows))
    return places
