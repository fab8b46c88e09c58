"""Answers as people and files read them: a chapter of Task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from kdx.core.answers import AnswerColumns, Answers, Given
from kdx.core.errors import UserError
from kdx.core.trees import Tree, from_leaves, leaves


class Readable(ABC):
    """What people are shown of answers, columns of files that are written of them, and answers that came in
    a file."""

    words: ClassVar[str]
    """What an answer is, for a sentence: "one class of several", "several numbers a row"."""

    @abstractmethod
    def made_up(self, rows: int, generator: torch.Generator | None = None) -> Answers:
        """Answers of a network to made-up rows, for checks before work."""

    def displayed(self, answers: Answers) -> list[Any]:
        """Of each row what people are shown of its answer, or of its truth."""
        values = [leaf.flatten(1) if leaf.dim() > 1 else leaf[:, None] for leaf in leaves(answers).values()]
        rows = torch.cat([value.double() for value in values], 1).tolist()
        return [
            " ".join(f"{number:.3g}" for number in row[:8]) + (" ..." if len(row) > 8 else "") for row in rows
        ]

    def outlined(self, answers: Answers) -> list[list[dict[str, Any]]] | None:
        """Of each row what of its answer, or of its truth, is drawn into it: {"box": x1, y1, x2, y2 in
        pixels, "words": what it is called}; None: nothing."""
        return None

    def hardest(self, answers: Answers, truth: Answers) -> Sequence[Tree] | None:
        """Of each row the part of it that was answered worst, one row in the form of inputs, to be shown as
        these are; None: rows have no parts."""
        return None

    def displayed_beside(self, answers: Answers, truth: Answers) -> list[Any]:
        """The same of answers, where the truth of their rows is there and may say what they are about."""
        return self.displayed(answers)

    def columns(self, answers: Answers, wanted: AnswerColumns) -> dict[str, Any]:
        """Answers as columns of a file: header -> N values, text or (N,) numbers, where nan is none. The same
        headers for any rows; each but `label`, `confidence` and `margin` begins with what it is and a colon,
        so that no name of a class or target can be taken for another column. Raises UserError where they
        do not have what is wanted.
        """
        if wanted != AnswerColumns():
            raise UserError(
                f"top= and soft= are of classes, and an answer here is {self.words}: leave them out"
            )
        return numbered_columns("value", answers)

    def columns_beside(self, answers: Answers, truth: Answers) -> dict[str, Any]:
        """The same, where the truth of the rows is there and may say what answers are about; it may have
        more columns."""
        return self.columns(answers, AnswerColumns())

    def answer_texts(self, answers: Answers, truth: Answers) -> list[str]:
        """(N,) the answers in words, for a file of {name of a row: its answer}. Raises UserError where they
        are none."""
        raise UserError(
            f"a .json file holds an answer in words for each row, and an answer here is {self.words}: name a "
            ".csv file, say"
        )

    def listed(self, answers: Answers) -> list[list[dict[str, Any]]] | None:
        """Of each row the entries that a .json file lists of it, each beside its name as "image_id", as COCO
        has results; None: such a file holds answers in words."""
        return None

    def truth_columns(self, truth: Answers) -> dict[str, Any]:
        """The truth as columns of a file beside `columns`: header -> N values, text or (N,) numbers, where
        None and nan are what nobody knows. Each is `truth`, or begins with it and a colon.
        """
        return numbered_columns("truth", truth)

    # answers from elsewhere

    def heads(self) -> list[str]:
        """What `columns` calls the numbers of an answer, in the order of an array of them."""
        return list(self.columns(self.made_up(1), AnswerColumns()))

    def of_array(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """(n, K) numbers of n rows -> columns as `given` takes them. Raises UserError where K is another."""
        heads = self.heads()
        if array.shape[1] != len(heads):
            raise UserError(
                f"an array of answers has a column for each of {', '.join(heads[:5])}"
                f"{' ...' if len(heads) > 5 else ''}, {len(heads)} in all; given: {array.shape[1]}"
            )
        return dict(zip(heads, array.T, strict=True))

    def given(self, columns: Mapping[str, Any], called: Callable[[int], str]) -> Given:
        """The inverse of `columns`. columns: header -> n values, of `label` words or None, else (n,) float64,
        nan where there is none. called: what a row is called in a sentence. Raises UserError, with the first
        rows of each kind, where they are no answers.
        """
        heads, like = self.heads(), leaves(self.made_up(1))
        if sum(leaf[0].numel() for leaf in like.values()) != len(heads) or set(columns) != set(heads):
            raise UserError(
                f"an answer here is {self.words}, in columns {', '.join(heads[:5])}; given: "
                f"{', '.join(list(columns)[:5])}"
            )
        values = torch.from_numpy(np.stack([columns[head] for head in heads], 1)).float()
        parts = values.split([leaf[0].numel() for leaf in like.values()], 1)
        found = {
            name: part.reshape(len(values), *leaf.shape[1:]).to(leaf.dtype)
            for (name, leaf), part in zip(like.items(), parts, strict=True)
        }
        return Given(from_leaves(found), values.isfinite().all(1).numpy())


def numbered_columns(head: str, answers: Answers) -> dict[str, Any]:
    """Numbers as columns of a file, in order: head:0, or head:NAME:0 of several arrays by name."""
    found = {}
    for name, leaf in leaves(answers).items():
        for place, column in enumerate(leaf.double().flatten(1).T if leaf.dim() > 1 else [leaf.double()]):
            found[f"{head}:" + (f"{name}:" if name else "") + str(place)] = column.numpy()
    return found
