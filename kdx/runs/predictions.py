"""A network's answers to rows, written to a file as they are made: no more than a block is held."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdx.core.answers import AnswerColumns, Answers
from kdx.core.errors import UserError
from kdx.core.files import kind_at
from kdx.core.shapes import expect_shape
from kdx.core.task import Categorical, Task
from kdx.core.trees import all_finite, tree
from kdx.core.types import Batch, Split
from kdx.data.new_rows.opening import open_new_rows
from kdx.data.new_rows.rows import NewRows, RowBlock
from kdx.data.writing import ANSWERS_BY_NAME, whole_file
from kdx.pipeline.stages.arrays import build_task
from kdx.runs.own_inputs import own_preprocessing, own_rows
from kdx.runs.own_rows import SPLIT_WORDS, OwnRows
from kdx.runs.preprocessing import PREPROCESSING, preprocessing
from kdx.runs.stored import Weights
from kdx.store.artifact import Artifact
from kdx.store.moved import kind_of_old
from kdx.tasks.several_heads import SeveralHeads
from kdx.training.predict import Condensing, predict
from kdx.training.runtime import Runtime

_Watch = Callable[[int, int], None]
"""Called with how many of how many rows are done."""


@dataclass(frozen=True)
class Wanted:
    """to: the file. columns: what is written of an answer. batch: rows that are held at a time. text: the
    column that holds texts, None: known by its name. task: of a head a task which one, from 1, None: not
    said."""

    to: Path
    columns: AnswerColumns
    batch: int
    text: str | None = None
    task: int | None = None

    @property
    def named(self) -> bool:
        """Whether the file holds an answer in words to each name, and no columns."""
        return self.to.suffix.lower() == ANSWERS_BY_NAME


@dataclass
class Tally:
    """What was written. classes: whether labels are classes, and are counted. rows: how many; columns:
    headers; labels: how often each; numbers: least, mean and largest of each column of values."""

    classes: bool = True
    rows: int = 0
    columns: list[str] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    sums: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    def add(self, block: Mapping[str, Any]) -> None:
        self.columns = self.columns or list(block)
        self.rows += len(next(iter(block.values())))
        if self.classes:
            self.labels.update(block.get("label", ()))
        for name, values in block.items():
            if name == "confidence" or name.startswith("value:"):
                least, total, most = self.sums.get(name, (np.inf, 0.0, -np.inf))
                self.sums[name] = (
                    min(least, float(values.min())),
                    total + float(values.sum(dtype=np.float64)),
                    max(most, float(values.max())),
                )

    def count_drawn(self, outlined: Sequence[Sequence[Mapping[str, Any]]] | None) -> None:
        """Of answers that are drawn into rows: what is drawn there."""
        for row in outlined or ():
            self.labels.update(one["words"] for one in row)

    def numbers(self) -> dict[str, dict[str, float]]:
        return {
            name: {"least": least, "mean": total / self.rows, "largest": most}
            for name, (least, total, most) in self.sums.items()
        }


def rows_to_answer(
    asked: Wanted, where: str, weights: Weights, data: Artifact | None, runtime: Runtime
) -> NewRows:
    """where: a split of the network's own data, or a path. data: the prepared rows, None where they are not
    known, as of an export."""
    if where in SPLIT_WORDS:
        if data is None:
            raise UserError(
                f"data={where} is a split of a run, and '{weights.file.name}' comes without its data: name "
                f"the run, or a folder or a file (./{where}, if it is one)"
            )
        if asked.text is not None:
            raise UserError(
                f"text= names the column of texts in a file, and data={where} is a split of the run"
            )
        own = OwnRows(data, where, runtime, lambda rows: own_rows(rows, weights.reads))
        if asked.task is not None and own.truth_known:
            raise UserError(
                f"task={asked.task} says of which task new rows are, and each row of data={where} is "
                "answered by its own: leave it out"
            )
        return own
    if re.match(r"[a-z][a-z0-9+.-]+://", where, re.IGNORECASE) and not kind_at(Path(where)):
        raise UserError(f"data={where} is an address, and kdx reads what lies here: download it first")
    how = weights.about.get(PREPROCESSING)
    if how is None:
        how = {} if data is None else preprocessing(data)
    expect_shape(how, dict, weights.file.with_name("model.json"), PREPROCESSING)
    how, place = own_preprocessing(how, weights.reads), Path(where).expanduser()
    return open_new_rows(kind_of_old(weights.about), how, place, runtime.workers, asked.text)


def check_answer_columns(asked: Wanted, weights: Weights) -> None:
    """Raises UserError where answers do not have the columns that are asked for, before any row is read."""
    task = build_task(weights.about)
    task.columns(task.made_up(1), asked.columns)
    if asked.task is not None:
        _head(task, asked)
    if asked.named and task.listed(task.made_up(1)) is None:
        task.answer_texts(task.made_up(1), task.made_up_truth(1))


def _head(task: Task, asked: Wanted) -> list[int]:
    """The classes of the task that the rows are of. Raises UserError where the network has no such head."""
    if asked.task is not None and isinstance(task, SeveralHeads):
        return task.head(asked.task)
    raise UserError(
        "task= is of a network with a head a task, as loss=lwf makes it, and this one has one for all: "
        "leave it out"
    )


def _kept(task: Task, asked: Wanted) -> Condensing | Callable[[Answers, Batch], Answers]:
    """What is kept of the answers to a batch. Raises UserError where nobody says of which task rows are."""
    if not isinstance(task, SeveralHeads):
        return Condensing(task)
    if asked.task is not None:
        head = _head(task, asked)
        return lambda answers, rows: task.narrow(answers, head)

    def known(answers: Answers, rows: Batch) -> Answers:
        if rows.y is None:
            raise UserError(
                "the network has a head a task, and nobody says of which task these rows are: add task=N, "
                f"one of {task.in_words()}"
            )
        return Condensing(task)(answers, rows)

    return known


def answer_rows(
    asked: Wanted, weights: Weights, rows: NewRows, runtime: Runtime, watch: _Watch
) -> tuple[Tally, Path | None, float]:
    """Writes the answers, and what could not be read to a file beside. (what was written, that file, None
    where all was read, seconds) Raises UserError where nothing could be read, or an answer is no number; then
    nothing is written.
    """
    begun = time.monotonic()
    task, network = build_task(weights.about), runtime.place(weights.network())
    tally = Tally(isinstance(task, Categorical))
    kept, together = _kept(task, asked), Condensing(task).batch
    listing = asked.named and task.listed(task.made_up(1)) is not None
    with whole_file("to", asked.to, listing=listing) as writer:
        for block in rows.blocks(asked.batch):
            inputs = tree(
                lambda leaf: torch.from_numpy(leaf) if isinstance(leaf, np.ndarray) else leaf, block.inputs
            )
            truth = None if block.truth is None else tree(torch.as_tensor, block.truth)
            split, batch = Split("new", inputs, truth), min(asked.batch, together)
            answers = predict(network, split, runtime, batch=batch, kept=kept)
            answers = answers if block.warp is None else task.move(answers, block.warp)
            if not all_finite(answers):
                raise UserError(
                    f"the answers of {weights.who} are not finite (NaN or infinite): the weights in "
                    f"'{weights.file}' are of no use"
                )
            found = {**block.known_by, **_columns(task, asked, answers, truth)}
            writer.write(_named(task, block, answers, truth) if asked.named else found)
            tally.add(found)
            tally.count_drawn(task.outlined(answers))
            watch(tally.rows + len(rows.unread), rows.count)
        if not tally.rows:
            name, why = rows.unread[0]
            raise UserError(
                f"not one of {rows.count:,} {rows.noun}s could be read; the first is '{name}': {why}"
            )
    return tally, _list_unread(asked.to, rows), time.monotonic() - begun


def _columns(task: Task, asked: Wanted, answers: Answers, truth: Answers | None) -> dict[str, Any]:
    if truth is None or asked.columns != AnswerColumns():
        return task.columns(answers, asked.columns)
    return task.columns_beside(answers, truth)


def _named(task: Task, block: RowBlock, answers: Answers, truth: Answers | None) -> dict[str, Any]:
    """What a row is called, and its answer in words, or the entries that a list has of it."""
    name = next(iter(block.known_by))
    if (entries := task.listed(answers)) is not None:
        return {name: block.known_by[name], "entries": entries}
    if truth is None:
        raise UserError(
            "these rows come without what their answers are made of: name a file of columns with to=, such "
            "as .csv, or other rows with data="
        )
    return {name: block.known_by[name], "answer": task.answer_texts(answers, truth)}


def unread_file(to: Path) -> Path:
    """Where those are listed that could not be read: each file of answers has one of its own."""
    return to.with_name(f"{to.name}.unread.csv")


def check_unread(to: Path, overwrite: bool) -> None:
    """Raises UserError where the list of an earlier command would be written over."""
    beside = unread_file(to)
    if (there := kind_at(beside)) and not (overwrite and there == "a file"):
        replace = "set overwrite=true, or " if there == "a file" else ""
        raise UserError(
            f"'{beside}', where what cannot be read is listed, is there already: {replace}name another to="
        )


def _list_unread(to: Path, rows: NewRows) -> Path | None:
    beside = unread_file(to)
    if not rows.unread:
        beside.unlink(missing_ok=True)  # of an earlier command
        return None
    with whole_file("to", beside) as writer:
        names, why = zip(*rows.unread, strict=True)
        writer.write({"name": names, "reason": why})
    return beside
