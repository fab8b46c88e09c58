"""What is answered: which rows and views of which split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from kdx.data.order import RowOrder
from kdx.pipeline.stages.answers import CLEAN, SAMPLE, SAMPLED
from kdx.store.artifact import Artifact
from kdx.store.stage import subseed

MIXUP = "mixup"
SHOWN_ROWS = "seen"
"""Name of the files of a rollout that say which rows the next part of a training shows."""


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


def rows_answered(file: str, counts: Mapping[str, int], asked: int, looked_at: Mapping[str, int]) -> int:
    """How many rows a file answers. asked: of the pool, where answers are bought. looked_at: see
    `some_rows`."""
    split = split_of(file)
    whole = asked if file == "unlabelled" and asked else looked_at.get(split, counts[split])
    return min(SAMPLED, whole) if file == SAMPLE else whole


def some_rows(
    split: str, counts: Mapping[str, int], looked_at: Mapping[str, int], seed: int
) -> Tensor | None:
    """The rows of a split that are answered, ascending, where its training ends before it has looked at all
    of them; None: all. looked_at: split -> how many it looks at, the first in the order of its stream
    (kdx.pipeline.stages.streams). seed: of the training's views."""
    count = looked_at.get(split)
    return None if count is None else RowOrder(counts[split], 1, subseed(seed, "order", split)).first(count)


def rows_seen(rollout: Artifact) -> dict[str, Tensor]:
    """split -> its rows, ascending, that the training which goes on with a rollout shows."""
    files = {name: rollout.file(f"{SHOWN_ROWS}.{name}.npy") for name in ("labelled", "unlabelled")}
    return {name: torch.from_numpy(np.load(file)) for name, file in files.items() if file.exists()}


def places_of(rows: Tensor, n: int) -> Tensor:
    """(n,) int64: the place of each row among `rows`, -1 where it is not there."""
    places = torch.full((n,), -1)
    places[rows] = torch.arange(len(rows))
    return places
