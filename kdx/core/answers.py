"""What a task is handed and what it gives, beside numbers: plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from kdx.core.trees import Tree

Answers = Tree
"""What a network, a teacher or a stored row says, and the truth in the same form: rows first; the Task alone
knows what the numbers mean. Of classification they are (B, C) logits."""


@dataclass(frozen=True)
class Figure:
    """A drawing of what answers were worth, as data: reports draw it by its kind, whatever the task.

    kind: "matrix" (data: {"values": rows of numbers, "rows", "columns": names}), "bars" (a histogram:
    {"edges", "counts"}), "ranked" ({"names", "values"}: a bar for each name) or "line" ({"lines": {words:
    {"x", "y"}}, "points": words of those that nothing joins}); see docs/run-json.md. tag: its name in
    TensorBoard and in file names.
    """

    title: str
    tag: str
    kind: str
    data: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Nothing:
    """What who knows nothing of a row attains. words: who that is, such as 'always "cat"'. by_row: (N,), as
    `Task.by_row` gives."""

    words: str
    by_row: Tensor


@dataclass(frozen=True)
class Evidence:
    """What an audit holds against each other, of one round of pseudo-labels.

    answers: the teacher's to `asked` rows of the pool, (n, ...) arrays by the names of `Task.pack`; copies:
    (n,) how often each is trained on, 0: left out. truth: of these rows, None where nobody knows. learned: of
    m rows the answers that were learned from, (m, V, ...) by name, how often each was shown (m, V), and their
    truth; None where rows were mixed. student: the round's student on the whole pool, as `Task.condense`
    keeps it where the truth is known; `whole` the pool's truth. weights: (N,) its last weight of each row,
    nan where it was not seen. validation: the teacher's answers in the view that methods estimate from, and
    the truth, both (V, ...). before: what `audit` kept of the last round.
    """

    asked: np.ndarray
    answers: Mapping[str, np.ndarray]
    copies: np.ndarray
    truth: Answers | None
    learned: tuple[Mapping[str, np.ndarray], np.ndarray, Answers | None] | None
    student: Answers
    whole: Answers | None
    weights: np.ndarray | None = None
    validation: tuple[Mapping[str, np.ndarray], Answers] | None = None
    before: Any = None


@dataclass(frozen=True)
class Audited:
    """found: for audit.json. right: (n,) bool of the asked rows, whether the teacher's answer is right, None
    where that is no question of yes or no or nobody knows. confidence: the teacher's mean one in all answers,
    None: it has none. kept: what the next round's audit gets as `before`."""

    found: dict[str, Any]
    right: np.ndarray | None = None
    confidence: float | None = None
    kept: Any = None


@dataclass(frozen=True)
class AnswerColumns:
    """What is written of answers (`Task.columns`) beside the answer itself. top: so many of the likeliest
    classes, 1: the answer alone. soft: a number of every class, "none", "probabilities" or "logits"."""

    top: int = 1
    soft: str = "none"


@dataclass(frozen=True)
class Given:
    """Answers that came in a file. answers: of its n rows, of those without one whatever. there: (n,) bool,
    the rows that have one. corrected: how many name another answer than their numbers say."""

    answers: Answers
    there: np.ndarray
    corrected: int = 0
