"""Rules that choose rows of the pool: which pseudo-labels are kept, or which answers are bought. Numpy only;
each file holds one rule.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from kdx.core.errors import WrongPart, type_name
from kdx.core.task import Categorical, Task


@dataclass(frozen=True, eq=False)
class Pool:
    """What a rule may look at, one row for each row of the pool. The truth is not among it.

    classes: how many there are, 0 where rows have none.

    teacher: (n, C) float32 logits of the clean pictures, or None where the teacher has not answered. student:
    (n, C) float32 logits of the student so far. features: (n, D) float32, the student's last hidden layer;
    labelled_features: (L, D), of the labelled examples. taken: (n,) bool, rows chosen in earlier rounds.
    wrong: the share of validation rows that the teacher gets wrong, in [0, 1], or None without a validation
    split.
    """

    classes: int
    taken: np.ndarray
    teacher: np.ndarray | None = None
    student: np.ndarray | None = None
    features: np.ndarray | None = None
    labelled_features: np.ndarray | None = None
    wrong: float | None = None

    def __len__(self) -> int:
        return len(self.taken)


@dataclass(frozen=True, eq=False)
class Chosen:
    """rows: (m,) int64 rows of the pool, ascending; a row that stands there c times is trained on in c
    copies, each augmented apart.

    about: plain numbers for the report. warnings: sentences for the user. chances: (n,) of each row of the
    pool, with which chance it was chosen, None: no chance was in it.
    """

    rows: np.ndarray
    about: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    chances: np.ndarray | None = None


def check_chosen(found: Any, rows: int, who: str) -> None:
    """Whether what a rule gave names rows of a pool of so many. Raises WrongPart."""
    if not isinstance(found, Chosen):
        raise WrongPart(f"{who}.choose must give kdx.methods.select.Chosen; it gives {type_name(found)}")
    chosen = found.rows
    if not isinstance(chosen, np.ndarray) or chosen.ndim != 1 or chosen.dtype.kind not in "iu":
        kind = f"{chosen.dtype} {chosen.shape}" if isinstance(chosen, np.ndarray) else type_name(chosen)
        raise WrongPart(
            f"the rows that {who} chooses must be an array (m,) of whole numbers, such as np.flatnonzero "
            f"gives; it gives {kind}"
        )
    if len(chosen) and not (0 <= chosen.min() and chosen.max() < rows):
        raise WrongPart(
            f"{who} chooses rows from {chosen.min()} to {chosen.max()} of a pool of {rows} (0 to {rows - 1})"
        )
    if (np.diff(chosen) < 0).any():
        raise WrongPart(f"the rows that {who} chooses must ascend: np.sort(rows)")
    try:
        json.dumps(dict(found.about), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WrongPart(f"Chosen.about of {who} must hold plain numbers by name: {error}") from error


class Rule(ABC):
    """A rule of choice. Subclasses are final; they take keyword-only hyperparameters without defaults and
    check them.
    """

    needs: ClassVar[tuple[str, ...]]
    """Which of "teacher", "student", "features" and "labelled_features" it reads."""

    @property
    def needs_task(self) -> type[Task]:
        """Rules that read logits go by the probabilities of classes."""
        return Categorical if {"teacher", "student"} & set(self.needs) else Task

    buys: ClassVar[bool] = False
    """Whether it chooses `count` rows for the teacher to answer, before the teacher has; else it sorts out
    answers that are there.
    """

    def foresee(self, rows: int, count: int | None, validation: bool) -> None:  # noqa: B027 (most rules can always choose)
        """Raises UserError, before any work, where it could not choose. rows: of the pool; count: the most in
        a round; validation: whether there is such a split.
        """

    @abstractmethod
    def choose(self, pool: Pool, count: int | None, seed: int) -> Chosen:
        """count: how many new rows to choose (never one that is taken), None for a rule that does not buy.
        Raises UserError where none is left.
        """
