"""Answers that come in columns of a file, read as a task reads answers: classes and numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdx.core.answers import Given
from kdx.core.errors import UserError, nearest
from kdx.data.phrases import counted, few

HALF_MAX = 60000.0
"""Logits beyond half precision's range are cut off here; softmax of such a row is one-hot either way."""
_OFF = 2e-3
"""How far the probabilities of a row may be from 1: as many digits as half precision, or three decimals,
give."""

_Called = Callable[[int], str]


def certain(classes: Tensor, count: int) -> Tensor:
    """(N,) int64 -> (N, K) logits whose softmax is one-hot, at any temperature in use."""
    return (F.one_hot(classes, count).float() - 1) * HALF_MAX


def are_probabilities(array: np.ndarray) -> bool:
    """Whether most of the (N, K) rows that are there are probabilities: then the others should be."""
    rows = array[~np.isnan(array).any(1)]
    return len(rows) > 0 and bool(_off(rows).mean() < 0.5)


def classes_given(classes: Sequence[str], columns: Mapping[str, Any], called: _Called) -> Given:
    """See `Classification.given`."""
    heads = sorted({name.partition(":")[0] for name in columns if name != "label"})
    if any(head in ("value", "deviation") for head in heads):
        raise UserError(
            f"columns such as {next(n for n in columns if n != 'label')} hold numbers, and an answer here "
            "is one class of several: `label`, p:NAME or logit:NAME"
        )
    if len(heads) > 1:
        raise UserError("answers have columns p:NAME or logit:NAME, not both: leave one kind out")
    soft = _soft(classes, columns, heads[0], called) if heads else None
    words = columns.get("label")
    if words is None:
        if soft is None:
            raise UserError(
                "answers of classes need a column `label`, or p:NAME or logit:NAME of every class"
            )
        return Given(torch.from_numpy(soft).float(), ~np.isnan(soft).any(1))
    hard = _classes_named(classes, words, called)
    named = hard >= 0
    sure = certain(torch.from_numpy(np.maximum(hard, 0)), len(classes))
    if soft is None:
        return Given(sure, named)
    told = ~np.isnan(soft).any(1)
    of_label = soft[np.arange(len(soft)), np.maximum(hard, 0)]
    with np.errstate(invalid="ignore"):
        otherwise = named & told & (of_label < soft.max(1))
    taken = torch.from_numpy((named & ~told) | otherwise)
    answers = torch.where(taken[:, None], sure, torch.from_numpy(np.nan_to_num(soft, nan=0.0)).float())
    return Given(answers, named | told, int(otherwise.sum()))


def numbers_given(names: Sequence[str], columns: Mapping[str, Any], called: _Called) -> Given:
    """See `Regression.given`."""
    wanted, told = ([f"{head}:{name}" for name in names] for head in ("value", "deviation"))
    _known(columns, [*wanted, *told], "target", f"a number or several: {', '.join(wanted[:5])}")
    _lacking(columns, wanted)
    values = np.stack([columns[name] for name in wanted], 1)
    there = ~np.isnan(values).any(1)
    _refuse(np.isnan(values).any(1) & ~np.isnan(values).all(1), "have some of their numbers only", called)
    _refuse(np.isinf(values).any(1), "have a value that is not finite", called)
    if not any(name in columns for name in told):
        return Given(torch.from_numpy(values).float(), there)
    _lacking(columns, told)
    spread = np.stack([columns[name] for name in told], 1)
    with np.errstate(invalid="ignore"):
        wrong = there & ~((spread >= 0) & np.isfinite(spread)).all(1)
    _refuse(wrong, "have no deviation, or one that is not a number of at least 0", called)
    tensors = {"value": torch.from_numpy(values).float(), "variance": torch.from_numpy(spread**2).float()}
    return Given(tensors, there)


def _soft(classes: Sequence[str], columns: Mapping[str, Any], head: str, called: _Called) -> np.ndarray:
    """(n, K) logits, nan in rows without."""
    wanted = [f"{head}:{name}" for name in classes]
    _known({n: None for n in columns if n != "label"}, wanted, "class", "one class of several")
    _lacking(columns, wanted)
    values = np.stack([columns[name] for name in wanted], 1)
    empty = np.isnan(values)
    _refuse(empty.any(1) & ~empty.all(1), "have numbers of some classes only (NaN, or an empty cell)", called)
    _refuse(np.isinf(values).any(1), "have a number that is not finite", called)
    if head == "logit":
        _check_logits(values)
        return values
    whole = ~empty.any(1)
    with np.errstate(invalid="ignore"):
        wrong = whole & _off(values)
    _refuse(wrong, "have probabilities that do not add up to 1, or are below 0", called)
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(values), -HALF_MAX)


def _check_logits(values: np.ndarray) -> None:
    """Raises UserError where every row that is there is of probabilities."""
    rows = values[~np.isnan(values).any(1)]
    if values.shape[1] > 1 and len(rows) and not _off(rows).any():
        raise UserError(
            "the columns logit:NAME hold probabilities, as every row is of numbers of at least 0 that add up "
            "to 1: call them p:NAME"
        )


def _off(values: np.ndarray) -> np.ndarray:
    """(n, K) -> (n,) bool: whether a row is no probabilities; of nan nobody knows."""
    return (values < 0).any(1) | (np.abs(values.sum(1) - 1) > _OFF)


def _classes_named(classes: Sequence[str], words: Sequence[str | None], called: _Called) -> np.ndarray:
    """(n,) int64, -1 where none is named."""
    numbers = {name: number for number, name in enumerate(classes)}
    found = np.array([-1 if word is None else numbers.get(word, -2) for word in words], np.int64)
    if wrong := np.flatnonzero(found == -2).tolist():
        different = list(dict.fromkeys(str(words[row]) for row in wrong))
        first = [f"'{words[row]}' ({called(row)})" for row in wrong[:3]]
        raise UserError(
            f"labels that name no class of the data, in {counted(len(wrong), 'row')}: "
            f"{few(first, len(wrong))}"
            f"{nearest(different[0], classes)}"
        )
    return found


def _known(columns: Mapping[str, Any], wanted: Sequence[str], what: str, answer: str) -> None:
    """Raises UserError where a column is of a class or a target that the data do not have."""
    if strange := [name for name in columns if name not in wanted]:
        raise UserError(
            f"columns of no {what} of the data: {few(strange)}{nearest(strange[0], wanted)}"
            + ("" if strange[0].partition(":")[1] else f"; an answer here is {answer}")
        )


def _lacking(columns: Mapping[str, Any], wanted: Sequence[str]) -> None:
    if lacking := [name for name in wanted if name not in columns]:
        raise UserError(f"there must be a column of each; these lack: {few(lacking)}")


def _refuse(wrong: np.ndarray, what: str, called: _Called) -> None:
    rows = np.flatnonzero(wrong).tolist()
    if rows:
        what = what.replace("have ", "has ", 1) if len(rows) == 1 else what
        named = few([called(row) for row in rows[:3]], len(rows))
        raise UserError(f"{counted(len(rows), 'row')} {what}: {named}")
