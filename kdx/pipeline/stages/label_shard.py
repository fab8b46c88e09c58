"""label-shard: a part of what the stage pseudo-label writes, by one writer: some rows of each of its files of
answers, for whoever puts them together (kdx.pipeline.stages.answering).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdx.pipeline.stages.answering import SHARD_JSON, cut_ranges, fill_answers, rows_and_views
from kdx.pipeline.stages.settled import LabelInputs, settle_asking
from kdx.store.work import Work
from kdx.training.runtime import Runtime


def run(work: Work, runtime: Runtime, *, shard: Sequence[int], whole: str, **inputs: Any) -> None:
    """shard: which it is, from 0, of how many. whole: the key of the artifact that it is a part of; it enters
    no key. inputs: see LabelInputs.

    Files: <split>.npy and so on, the rows of this shard alone; shard.json: `ranges`, file -> the first of its
    rows and the first behind the last, as they lie in the whole; `settled`, what all shards must have settled
    alike. An interrupted stage goes on at the view that it had reached.
    """
    given = LabelInputs(**inputs)
    settled = settle_asking(work, runtime, given)
    number, of = shard
    data = given.data
    ranges = cut_ranges(rows_and_views(data, settled.wanted, settled.asked), settled.asked.batch, of)[number]
    if ranges:
        fill_answers(work, runtime, data, settled.wanted, settled.asked, ranges)
    else:
        work.note(f"nothing is left for shard {number} of {of}: there are fewer batches of answers than that")
    work.write_json(
        SHARD_JSON,
        {
            "shard": [number, of],
            "whole": whole,
            "ranges": {name: list(found) for name, found in ranges.items()},
            "settled": settled.alike(),
        },
    )
