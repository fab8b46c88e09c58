"""Test rows with every network's answer, for people to look at: the surest errors of the student first, then
rows spread over the classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdx.core.task import Task
from kdx.core.trees import device_of, leaves, moved, picked, rows_of, tree
from kdx.core.types import Answers, Split
from kdx.models.adapt import Adapter
from kdx.pipeline.stages.names import KnownBy
from kdx.store.work import Work

EXAMPLES = 16


def write_examples(
    work: Work,
    rows: Tensor,
    known: KnownBy,
    test: Split,
    answers: Mapping[str, Answers],
    task: Task,
    adapter: Adapter | None = None,
) -> None:
    """The rows of `example_rows` with what they are called, the truth where there are labels, and what each
    role answers. Levels are kept as they are stored, to be drawn; what the adapter displays of rows as text.
    known: of the test rows.
    """
    here = rows.to(device_of(test.inputs))
    texts = adapter.displayed(moved(picked(test.inputs, here), "cpu")) if adapter else None
    if (shown := _levels(test)) is not None:
        np.save(work.path / "examples.npy", shown[rows.to(shown.device)].cpu().numpy())
    some, truth = {role: picked(found, rows) for role, found in answers.items()}, picked(test.known, rows)
    sure = {role: task.confidence(found) for role, found in some.items()}
    work.write_json(
        "examples.json",
        {
            "rows": rows.tolist(),
            "names": known.words(rows.numpy()),
            **({"texts": texts} if texts is not None else {}),
            **({"truth": task.displayed(truth)} if task.labels else {}),
            "predictions": {role: _displayed(task, found, truth, adapter) for role, found in some.items()},
            "confidence": {role: found.tolist() for role, found in sure.items() if found is not None},
            **({"outlines": outlines} if (outlines := _outlines(task, truth, some)) else {}),
        },
    )


def _levels(test: Split) -> Any:
    """The rows, or of rows with several inputs the first, that are levels, to be drawn; None: none are."""
    drawn = [leaf for name, leaf in leaves(test.inputs).items() if not name or name in test.kinds]
    return next((leaf for leaf in drawn if leaf.dtype == torch.uint8), None)


def _outlines(task: Task, truth: Answers, answers: Mapping[str, Answers]) -> dict[str, Any]:
    """Whose -> of each row what is drawn into it; empty where answers have no such thing."""
    found = {"truth": task.outlined(truth)} if task.labels else {}
    found |= {role: task.outlined(said) for role, said in answers.items()}
    return {whose: drawn for whose, drawn in found.items() if drawn is not None}


def _displayed(task: Task, answers: Answers, truth: Answers, adapter: Adapter | None) -> list[Any]:
    """What people are shown of each answer, and of rows that have parts the one that was answered worst."""
    found, hardest = task.displayed_beside(answers, truth), task.hardest(answers, truth)
    if hardest is None or adapter is None:
        return found
    worst = [adapter.displayed(moved(part, "cpu")) for part in hardest]
    return [f"{said}; worst: {words[0]}" if words else said for said, words in zip(found, worst, strict=True)]


def example_rows(
    test: Split, answers: Mapping[str, Answers], worst: Mapping[str, Sequence[int]], task: Task
) -> Tensor:
    """At most EXAMPLES numbers of rows, in the order in which they are shown. Half of them, as far as there
    are such, is what the student (else the last role) gets most wrong, the worst first, then what others do.
    The rest is spread over the classes: of those that are not shown yet first, of each the first row that all
    get right. Where there are no classes it is spread evenly over the split. worst: role -> its worst rows,
    of which half of EXAMPLES are looked at.
    """
    found: list[int] = []
    right = torch.ones(rows_of(test.inputs), dtype=torch.bool)
    for role in sorted([*answers][::-1], key=lambda name: name != "student"):
        knows = task.right(answers[role], test.known)
        right &= torch.ones_like(right) if knows is None else knows.bool()
        found += [row for row in worst[role][: EXAMPLES // 2] if row not in found]
    found = found[: EXAMPLES // 2]
    return torch.tensor(found + _spread(test, task, right, found, EXAMPLES - len(found)))


def _spread(test: Split, task: Task, right: Tensor, shown: list[int], most: int) -> list[int]:
    """At most so many further rows, those that all get right before others. In each turn the classes that are
    shown least get a row, evenly over them where they are too many.
    """
    classes = task.strata(tree(np.asarray, test.known))
    left = np.setdiff1d(np.arange(len(right)), shown)
    if classes is None:
        return _evenly(left, most).tolist()
    left = left[np.argsort(~right.numpy()[left], kind="stable")]
    times = np.bincount(classes[shown], minlength=int(classes.max()) + 1)
    found: list[int] = []
    while len(found) < most and len(left):
        there, first = np.unique(classes[left], return_index=True)
        least = times[there] == times[there].min()
        taken = _evenly(left[first[least]], most - len(found))
        np.add.at(times, classes[taken], 1)
        found += taken.tolist()
        left = left[~np.isin(left, taken)]
    return found


def _evenly(rows: np.ndarray, most: int) -> np.ndarray:
    found: np.ndarray = rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))]
    return found
