"""Batches for training and for labelling, each a pure function of its step.

A stream has no state: which rows a step takes follows from (seed, step), their inputs from (seed, row, view).
So a resumed run continues with the batch that the interrupted one would have seen, and workers change nothing
but the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kdx.core.errors import UserError
from kdx.core.task import Task
from kdx.core.trees import device_of, divided, leaves, moved, tree
from kdx.core.types import Answers, Batch, Split
from kdx.data.order import RowOrder, TimeOrder
from kdx.data.views.chain import Chain, Mix, Views

_CLEAN = Views(Chain([]), seed=0)
_TOGETHER, _MOST = 1 << 19, 32
"""Bytes of inputs that are made at once, and the most steps that these are of."""


@dataclass(frozen=True)
class Makers:
    """What makes the inputs of a row.

    main: the student's, `Batch.views["main"]`; extra: further inputs of the same rows and view numbers, by
    name. clean: also give the clean ones, as `Batch.views["clean"]`.
    """

    main: Views
    extra: Mapping[str, Views] = field(default_factory=dict)
    clean: bool = False

    def __post_init__(self) -> None:
        for name, maker in self.extra.items():
            if name in ("main", "clean"):
                raise UserError(
                    "the views 'main' and 'clean' are made by the stream itself; given an extra view "
                    f"{name!r}: rename it"
                )
            if maker.chain.mixup is not None:
                raise UserError(
                    f"only the main view can be mixed, as a batch has one truth; view {name!r} has "
                    "mixup: remove it there"
                )

    def by_name(self) -> dict[str, Views]:
        return {"main": self.main, **self.extra, **({"clean": _CLEAN} if self.clean else {})}


class Stream:
    """The batches of one split for training.

    cycle: how many views a row has. Its view in pass e is 1 + e mod cycle; None: 1
    + e, a new one in each pass; 0: always the clean view 0.
    task: needed where the chain mixes or moves rows of a split with truth, as it does so to that too.
    device: where inputs and y are made; by default where split.inputs lies.
    rows: the rows to pass over, ascending; a row that stands there c times has c copies, each with view
    numbers of its own. None: all. seed: of their permutations, None: they come as they stand.
    part: which rows of each batch are made, as of several processes each makes some of them.
    """

    def __init__(
        self,
        split: Split,
        makers: Makers,
        *,
        batch: int,
        seed: int | None,
        cycle: int | None,
        task: Task | None = None,
        device: torch.device | None = None,
        rows: Tensor | None = None,
    ):
        if cycle is not None and cycle < 0:
            raise UserError(
                "the number of views of a row must be at least 1, 0 for the clean picture, or null for no "
                f"limit; given {cycle}"
            )
        self.split, self.cycle = split, cycle
        count = len(split) if rows is None else len(rows)
        self.order = TimeOrder(count, batch) if seed is None else RowOrder(count, batch, seed)
        self._rows = None if rows is None else (rows, *_copies(rows))
        self._makers = makers.by_name()
        self._task, self._device = task, device_of(split.inputs) if device is None else device
        self.part = slice(None)

    def together(self) -> int:
        """Of how many steps the batches are best made at once: of small rows the calls are what costs, and
        not the bytes. 1 where rows are read as they are asked for, or where answers move with what is shown.
        """
        held = [*leaves(self.split.inputs).values(), *leaves(self.split.truth).values()]
        if not self.order.even or (self._task is not None and self._task.placed):
            return 1
        if not all(leaf is None or isinstance(leaf, Tensor) for leaf in held):
            return 1
        row = sum(leaf[0].numel() * max(leaf.element_size(), 4) for leaf in held if leaf is not None)
        return max(1, min(_MOST, _TOGETHER // max(1, row * self.order.batch * len(self._makers))))

    def batch(self, step: int) -> Batch:
        """The step's rows. index and view lie on the CPU, inputs and y on the stream's device."""
        return self._rows_of(step, 1)

    def batches(self, step: int, steps: int) -> list[Batch]:
        """Those of so many steps from one on, each as `batch` gives it. More than one: see `together`."""
        whole = self._rows_of(step, steps)
        return [whole] if steps == 1 else _cut(whole, steps)

    def _rows_of(self, step: int, steps: int) -> Batch:
        index, passes = (
            each.view(steps, -1)[:, self.part].reshape(-1) for each in self.order.rows(step, steps)
        )
        if self._rows is not None:
            rows, copy, copies = (part[index] for part in self._rows)
            index, passes = rows, passes * copies + copy
        view = (
            passes + 1
            if self.cycle is None
            else passes % self.cycle + 1
            if self.cycle
            else torch.zeros_like(passes)
        )
        return _batch(self.split, index, view, self._makers, self._task, self._device)


def _cut(whole: Batch, steps: int) -> list[Batch]:
    """The rows of so many steps as batches of one size, each with memory of its own, as if made alone."""
    size = len(whole) // steps

    def parts(value: Any) -> list[Any]:
        return [tree(Tensor.clone, part) for part in divided(value, [size] * steps)]

    views = {name: parts(view) for name, view in whole.views.items()}
    rows = zip(whole.index.split(size), whole.view.split(size), strict=True)
    truth = [None] * steps if whole.y is None else parts(whole.y)
    return [
        Batch(whole.split, index, view, {name: each[number] for name, each in views.items()}, truth[number])
        for number, (index, view) in enumerate(rows)
    ]


def _copies(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) ascending -> (n,) which copy of its row each is, (n,) how many copies its row has: [3, 5, 5] ->
    [0, 0, 1], [1, 2, 2]
    """
    _, counts = torch.unique_consecutive(rows, return_counts=True)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    return torch.arange(len(rows)) - starts, counts.repeat_interleave(counts)


def sequential(
    split: Split,
    *,
    batch: int,
    views: Views | None,
    view: int,
    task: Task | None = None,
    device: torch.device | None = None,
    rows: Tensor | None = None,
) -> Iterator[Batch]:
    """Every row (or those of `rows`) in order, in its view number `view` (0, the clean one, needs no
    `views`). For evaluation and labelling.
    """
    if batch < 1 or view < 0 or (view and views is None):
        raise UserError(
            "rows in order need a batch size >= 1, a view >= 0, and for a view > 0 its augmentation; given "
            f"batch={batch}, view={view}"
        )
    device = device_of(split.inputs) if device is None else device
    everything = torch.arange(len(split)) if rows is None else rows
    for index in everything.split(batch):
        yield _batch(split, index, torch.full_like(index, view), {"main": views or _CLEAN}, task, device)


def as_trained(
    split: Split,
    views: Views,
    *,
    batch: int = 512,
    device: torch.device | None = None,
    task: Task | None = None,
) -> Iterator[Batch]:
    """Every row in order, in view 1, with the clean row beside it: what the first pass of a Stream shows,
    for statistics. No mixup.
    """
    device = device_of(split.inputs) if device is None else device
    for index in torch.arange(len(split)).split(batch):
        yield _batch(split, index, torch.ones_like(index), {"main": views, "clean": _CLEAN}, task, device)


def _batch(
    split: Split,
    index: Tensor,
    view: Tensor,
    makers: Mapping[str, Views],
    task: Task | None,
    device: torch.device,
) -> Batch:
    made = {name: maker(split, index, view, device=device) for name, maker in makers.items()}
    y = _truth(split, index, made["main"][1], task, device)
    warp = None
    if task is not None and task.placed:
        warp = makers["main"].warp(split, index, view, device)
        y = y if y is None or warp is None else task.move(y, warp)
    shown = {name: x for name, (x, _) in made.items()}
    return Batch(split=split.name, index=index, view=view, views=shown, y=y, warp=warp)


def _truth(
    split: Split, index: Tensor, mix: Mix | None, task: Task | None, device: torch.device
) -> Answers | None:
    if split.truth is None:
        return None
    y = _take(split.truth, index, device)
    if mix is None:
        return y
    if task is None:
        raise UserError("mixup of rows with truth needs the task that mixes it; given none: pass task")
    partner, share = mix
    return task.mix(y, _take(split.truth, partner, device), share)


def _take(truth: Answers, index: Tensor, device: torch.device) -> Answers:
    here = moved(index, device_of(truth))
    found: Answers = moved(tree(lambda leaf: leaf.index_select(0, here), truth), device)
    return found


class BatchLoader:
    """The batches of several streams for the steps start, start + 1, ... stop - 1, in order.

    workers: threads that prepare batches ahead, at most 2 * workers of them (of small rows 2 * workers times
    those that are made together, see `Stream.together`); 0: batches are made when one is asked for. The bytes
    are the same. Iterating opens the threads; they end with the iteration, with the iterator's `close()`, or
    when it is dropped.
    """

    def __init__(self, streams: Mapping[str, Stream], *, start: int, stop: int, workers: int):
        if workers < 0 or not 0 <= start <= stop:
            raise UserError(
                f"loading needs workers >= 0 and 0 <= start <= stop; given workers={workers}, "
                f"start={start}, stop={stop}"
            )
        self._streams, self._steps, self._workers = dict(streams), range(start, stop), workers
        self.together = min((stream.together() for stream in self._streams.values()), default=1)
        """Of how many steps the batches are made at once."""

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Generator[Mapping[str, Batch], None, None]:
        places = range(0, len(self._steps), self.together)
        groups = [self._steps[place : place + self.together] for place in places]
        if not self._workers:
            for group in groups:
                yield from self._make(group)
            return
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="kdx-loader")
        ahead: deque[Future[Sequence[Mapping[str, Batch]]]] = deque()
        try:
            for group in groups:
                ahead.append(pool.submit(self._make, group))
                if len(ahead) == 2 * self._workers:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _make(self, group: range) -> Sequence[Mapping[str, Batch]]:
        found = {name: stream.batches(group[0], len(group)) for name, stream in self._streams.items()}
        return [{name: batches[place] for name, batches in found.items()} for place in range(len(group))]
