"""Teachers: functions of a batch that answer from stored arrays, from a live network,
or as several together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from kdx.core.aggregate import Combine
from kdx.core.hidden_answers import hidden_answer, tells_hidden
from kdx.core.task import Task
from kdx.core.trees import moved, tree
from kdx.core.types import Answers, Batch, Frozen, Teacher


@dataclass(frozen=True)
class Stored:
    """Answers by row and view from a label artifact's files.

    answers: split -> the arrays of `Task.pack` by name, each (N, V, ...), on the device or read as they are
    asked for (kdx.data.reader.Reader), or one that all rows share (kdx.core.trees.SharedRows); slot v holds
    view `first[split]` + v. places: split -> the place of each of its rows in its answers, -1 where the
    teacher was not asked; of other splits all rows are there, in order.
    """

    answers: Mapping[str, Mapping[str, Any]]
    first: Mapping[str, int]
    clean: bool
    device: str
    task: Task
    places: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def _slots(self) -> dict[str, dict[str, Any]]:
        """The same arrays, (N V, ...): slot by slot."""
        return {
            split: {name: leaf.flatten(0, 1) for name, leaf in found.items()}
            for split, found in self.answers.items()
        }

    def views(self, split: str) -> int:
        """Stored views of each row of a split."""
        return next(iter(self.answers[split].values())).shape[1]

    def __call__(self, batch: Batch) -> Answers:
        """The answers to exactly the inputs of `batch`; of clean answers those to the clean rows, where they
        lie at places of these as they lie in the batch."""
        index, view = batch.index.cpu(), batch.view.cpu()
        views, first = self.views(batch.split), self.first[batch.split]
        if batch.split in self.places:
            index = self.places[batch.split][index]
            if (index < 0).any():
                raise IndexError("the teacher was not asked about a row of this batch")
        if self.clean:
            places = index * views
        else:
            low, high = map(int, view.aminmax()) if len(view) else (first, first)
            if low < first or high >= first + views:
                raise IndexError(
                    f"no stored answer for view {low if low < first else high} of '{batch.split}': {views} "
                    "views are stored"
                )
            places = torch.add(view - first, index, alpha=views)
        # index_select copies whole rows, five times as fast as numpy's indexing; they travel as float16, half
        # the bytes.
        found = {
            name: moved(leaf.index_select(0, moved(places, leaf.device)), self.device)
            for name, leaf in self._slots[batch.split].items()
        }
        answers = self.task.unpack(found)
        return self.task.move(answers, batch.warp) if self.clean and batch.warp is not None else answers


@dataclass(frozen=True)
class Extra:
    """(N, C) float32 by pool row"""

    values: Any
    device: str

    def __call__(self, batch: Batch) -> Tensor:
        if batch.split != "unlabelled":
            raise IndexError(f"the extras of the answers are those of the pool; asked for '{batch.split}'")
        index = moved(batch.index, self.values.device)
        found: Tensor = moved(self.values.index_select(0, index), self.device)
        return found


@dataclass(frozen=True)
class Live:
    """The network itself answers, to the student's view or to the clean row. task: of answers that may have
    to be moved to where they lie in the student's view."""

    network: Frozen
    view: str
    task: Task | None = None

    def __call__(self, batch: Batch) -> Answers:
        found: Answers = tree(
            lambda leaf: leaf.float() if leaf.is_floating_point() else leaf,
            self.network(batch.views[self.view]),
        )
        if self.task is None or self.view == "main" or batch.warp is None:
            return found
        return self.task.move(found, batch.warp)


@dataclass(frozen=True)
class Ensemble:
    """The teachers' answers made one."""

    teachers: Sequence[Teacher]
    combine: Combine

    def __call__(self, batch: Batch) -> Answers:
        return self.combine([teacher(batch) for teacher in self.teachers])


@dataclass(frozen=True)
class LiveHidden:
    """The network itself answers with what its last layer reads (`kdx.core.hidden_answers`)."""

    network: Frozen
    view: str

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Answers:
        made = tells_hidden(self.network.network, "this teacher")
        return hidden_answer(made, batch.views[self.view])


def live_teacher(
    networks: Sequence[Frozen],
    view: str,
    combine: Combine,
    *,
    hidden: bool = False,
    task: Task | None = None,
) -> Teacher:
    """One live teacher, or the ensemble of several. combine: what makes one answer of theirs. hidden: whether
    the one, of which there must be one, answers with its hidden states. task: see Live."""
    if hidden:
        (only,) = networks
        return LiveHidden(only, view)
    live = [Live(n, view, task) for n in networks]
    return live[0] if len(live) == 1 else Ensemble(live, combine)
