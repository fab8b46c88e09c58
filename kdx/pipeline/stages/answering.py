"""The answers of a labelling stage, view by view: asked of the teacher, all rows or one shard of them, or put
together from the shards that others have made.

A shard is a run of rows in each file of answers, all their views. It begins and ends where a batch of the
whole does, so each row is answered among the same rows as by one process: a network's last bits may hang on
how many rows it is given at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from kdx.core.errors import UserError
from kdx.core.files import write_atomically
from kdx.data.npy import header_of, let_go
from kdx.data.ragged import RAGGED_FILES, RaggedArray
from kdx.data.streams import sequential
from kdx.pipeline.stages.arrays import array_file, need_split
from kdx.pipeline.stages.asked import places_of, split_of
from kdx.pipeline.stages.left import answered, view_digest
from kdx.pipeline.stages.packing import open_files
from kdx.pipeline.stages.settled import Answering, pack_answers
from kdx.store.artifact import Artifact
from kdx.store.source import sha256
from kdx.store.work import Work
from kdx.training.runtime import Runtime

SHARD_JSON = "shard.json"
"""Of a shard: which it is, the rows that it has of each file, and what it settled before it answered."""
_LET_GO = 64
"""Batches after which the pages of a file that is being filled are given back."""
_BYTES = 1 << 26
"""Of answers that are copied together."""
Ranges = Mapping[str, tuple[int, int]]
"""file -> the first of its rows, and the first behind the last."""


def cut_ranges(files: Mapping[str, tuple[int, int]], batch: int, of: int) -> list[dict[str, tuple[int, int]]]:
    """The ranges of `of` shards, in order: of about as many answers each, none without a batch as long as
    there are as many batches; what is then left has none. files: name -> (rows, views of each)."""
    pieces = [
        (name, start, min(start + batch, rows), views)
        for name, (rows, views) in files.items()
        for start in range(0, rows, batch)
    ]
    done = np.cumsum([0, *((stop - start) * views for _, start, stop, views in pieces)])
    ends = [0]
    for number in range(1, of + 1):
        share = done[-1] * number / of
        wanted = int(np.searchsorted(done, share))
        wanted -= wanted > 0 and share - done[wanted - 1] <= done[wanted] - share  # the nearer one
        least, most = min(ends[-1] + 1, len(pieces)), max(len(pieces) - (of - number), 0)
        ends.append(len(pieces) if number == of else max(least, min(wanted, most)))
    found = []
    for begin, end in zip(ends, ends[1:], strict=False):
        ranges: dict[str, tuple[int, int]] = {}
        for name, start, stop, _ in pieces[begin:end]:
            ranges[name] = (ranges[name][0] if name in ranges else start, stop)
        found.append(ranges)
    return found


def rows_and_views(
    data: Artifact, wanted: Mapping[str, tuple[int, int]], asked: Answering
) -> dict[str, tuple[int, int]]:
    """file -> (rows that it answers, views of each)"""
    counts = data.json("data.json")["counts"]
    return {
        name: (len(asked.rows(name, counts[split_of(name)])), views) for name, (views, _) in wanted.items()
    }


def fill_answers(
    work: Work,
    runtime: Runtime,
    data: Artifact,
    wanted: Mapping[str, tuple[int, int]],
    asked: Answering,
    ranges: Ranges | None = None,
) -> None:
    """Writes the files of answers, view by view. wanted: file -> (views of each row, the first of them).
    ranges: of a shard, the rows that it has of each file; files without one are left out."""
    wanted = {name: found for name, found in wanted.items() if ranges is None or name in ranges}
    done = answered(work, wanted)
    total = sum(count for count, _ in wanted.values())
    for name, (count, first) in wanted.items():
        split = need_split(data, split_of(name), runtime)
        rows = asked.rows(name, len(split))
        rows = rows if ranges is None else rows[slice(*ranges[name])]
        places = places_of(rows, len(split))
        fresh = all(name != other for other, _ in done)
        files = open_files(work, name, asked.packing, (len(rows), count), fresh)
        cut_off(files, [slot for other, slot in done if other == name])
        for slot in range(count):
            if as_left(work, files, name, slot, done):
                continue
            batches = sequential(
                split,
                batch=asked.batch,
                views=asked.maker,
                view=first + slot,
                task=asked.task,
                device=torch.device(runtime.device),
                rows=rows,
            )
            for number, batch in enumerate(batches):
                packed = pack_answers(asked, batch, name, runtime)
                for leaf, file in files.items():
                    file[places[batch.index.cpu()].numpy(), slot] = packed[leaf].cpu().numpy()
                    if number % _LET_GO == 0:
                        let_go(file)
            took = round(work.seconds, 3)
            done[name, slot] = (took, view_digest(work, files, name, slot, took))
            for file in files.values():
                file.flush()
            write_atomically(work.checkpoint, json.dumps([[*which, *held] for which, held in done.items()]))
            work.progress(len(done), total, name)
        del files


def cut_off(files: Mapping[str, Any], done: Sequence[int]) -> None:
    """Of files that grow as they are written: what a stopped run had begun is forgotten. done: slots."""
    for file in files.values():
        if isinstance(file, RaggedArray):
            file.cut(done)


def as_left(
    work: Work,
    files: Mapping[str, Any],
    name: str,
    slot: int,
    done: dict[tuple[str, int], tuple[float, str]],
) -> bool:
    """Whether a stopped run answered this view, and its answers are as they were written: then its time
    counts too. Of others it says that they are made again. done: what `answered` found, and what came since;
    such a view is taken out.
    """
    before = done.pop((name, slot), None)
    if before is None:
        return False
    if before[1] != view_digest(work, files, name, slot, before[0]):
        path = work.path / f"{name}.npy"
        work.note(
            f"answers that a stopped run had left in {path} are not as they were written, and are made again",
            "warning",
        )
        return False
    done[name, slot] = before
    work.spent(before[0])
    return True


def put_together(
    work: Work,
    data: Artifact,
    wanted: Mapping[str, tuple[int, int]],
    asked: Answering,
    shards: Sequence[Artifact],
) -> None:
    """Writes the same files from those of all shards, in order. What is copied is held against the hashes of
    their manifests; UserError where one has changed since."""
    work.checkpoint.unlink(missing_ok=True)
    answered(work, {})  # what a stopped process left: copying begins anew
    files = rows_and_views(data, wanted, asked)
    ranges = cut_ranges(files, asked.batch, len(shards))
    for number, (name, shape) in enumerate(files.items()):
        laid = open_files(work, name, asked.packing, shape, fresh=True)
        having = [(shard, its[name]) for shard, its in zip(shards, ranges, strict=True) if name in its]
        for leaf, file in laid.items():
            if isinstance(file, RaggedArray):
                _append(file, name, leaf, having)
            else:
                _copy(file, name, leaf, having)
            file.flush()
        work.progress(number + 1, len(files), name)


def _copy(file: Any, name: str, leaf: str, having: Sequence[tuple[Artifact, tuple[int, int]]]) -> None:
    for shard, (start, stop) in having:
        source = np.load(shard.path / array_file(name, leaf), mmap_mode="r")
        seen = hashlib.sha256(header_of(source.shape, source.dtype))
        for begin, end in _blocks(source):
            block = np.ascontiguousarray(source[begin:end])
            seen.update(block.data)
            file[start + begin : start + end] = block
            let_go(file)
            let_go(source)
        _check(shard, array_file(name, leaf), seen.hexdigest())
        assert len(source) == stop - start


def _append(
    file: RaggedArray, name: str, leaf: str, having: Sequence[tuple[Artifact, tuple[int, int]]]
) -> None:
    """View by view, as one process writes them."""
    sources = [(RaggedArray(shard.path / f"{name}.{leaf}"), start) for shard, (start, _) in having]
    for slot in range(file.shape[1]):
        for source, start in sources:
            for begin, end in _blocks(source):
                rows = np.arange(begin, end)
                file[start + rows, slot] = source.read(rows, np.full(len(rows), slot))
    for shard, _ in having:
        for suffix in RAGGED_FILES:
            _check(shard, f"{name}.{leaf}{suffix}", sha256(shard.path / f"{name}.{leaf}{suffix}"))


def _blocks(source: Any) -> Iterator[tuple[int, int]]:
    """(first row, the first behind the last) of blocks that are copied together."""
    whole = len(source)
    each = max(1, int(np.prod(source.shape[1:], dtype=np.int64)) * source.dtype.itemsize)
    step = max(1, _BYTES // each)
    yield from ((start, min(start + step, whole)) for start in range(0, whole, step))


def _check(shard: Artifact, file: str, found: str) -> None:
    if shard.manifest["files"][file]["sha256"] != found:
        raise UserError(
            f"'{shard.path / file}' has changed since it was looked through: run the same command again, "
            "which makes that shard again"
        )
