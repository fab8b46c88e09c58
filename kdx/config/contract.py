"""Whether a task and metrics of the user's own give what they promise: both are tried on made-up rows before
any work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdx.core import checks
from kdx.core.errors import UserError, UserErrors
from kdx.core.metric import Metric, checked_metric
from kdx.core.task import AnswerColumns, Nothing, OwnMetric, Task
from kdx.core.trees import leaves
from kdx.tasks.shown import AGREEMENT

_TRIED = 3
"""Made-up rows that a task is tried on: a (B, 1) is none of (B,), and no axis of anything else is as long."""
_TAKEN = (
    *("n", "recall", "reliability", "confusion", "figures", AGREEMENT.name),
    *("arrays", "confused", "predicted"),
    *("train", "validation", "test"),
)
"""What results use beside the names of metrics."""
_NEEDED = ("shown", "primary", "paired", "width", "words")


def check_task(task: Task) -> None:
    """Raises UserErrors with all that is wrong with what the task gives to made-up rows."""
    if wrong := [*_of_attributes(task)] or [*_of_rows(task)] or [*_of_methods(task)]:
        raise UserErrors(wrong)


def check_metric(metric: OwnMetric, name: str, task: Task) -> None:
    """Tries it on made-up answers. Raises UserError."""
    if name in task.shown:
        raise UserError("the task has a metric of that name: give it another")
    if name in _TAKEN:
        raise UserError(f"results keep something else as '{name}': give the metric another name")
    checked_metric(metric.metric.document(), "metric")
    generator = torch.Generator().manual_seed(0)
    value = metric.measure(task.made_up(_TRIED, generator), task.made_up_truth(_TRIED, generator))
    if not isinstance(value, int | float):
        raise UserError(f"measure must return a number; given: {checks.shown(value)}")


def _of_attributes(task: Task) -> Iterator[str]:
    who = type(task).__name__
    if missing := [name for name in _NEEDED if name not in dir(task)]:
        yield f"{who}.{missing[0]} is missing: see docs/task.md"
        return
    if not isinstance(task.shown, Mapping) or not task.shown:
        yield f"{who}.shown must be its metrics by name; given: {checks.shown(task.shown)}"
        return
    for name, metric in task.shown.items():
        if not isinstance(metric, Metric):
            yield f"{who}.shown['{name}'] must be a Metric; given: {checks.shown(metric)}"
        elif metric.name != name:
            yield f"{who}.shown['{name}'] is a metric called '{metric.name}': give both the same name"
        elif why := _unreadable(metric, f"{who}.shown['{name}']"):
            yield why
    measured = [name for name in task.shown if name != AGREEMENT.name]
    if task.primary not in measured:
        yield (
            f"{who}.primary must be one of {', '.join(measured)} (see shown); "
            f"given: {checks.shown(task.primary)}"
        )
    if not isinstance(task.paired, Metric):
        yield f"{who}.paired must be a Metric; given: {checks.shown(task.paired)}"


def _unreadable(metric: Metric, where: str) -> str | None:
    try:
        checked_metric(metric.document(), where)
    except UserError as error:
        return str(error)
    return None


def _of_rows(task: Task) -> Iterator[str]:
    for what in ("made_up", "made_up_truth"):
        found = _called(task, what, _TRIED, torch.Generator().manual_seed(0))
        for leaf in leaves(found).values():
            if not isinstance(leaf, Tensor) or leaf.dim() == 0 or len(leaf) != _TRIED:
                yield (
                    f"{type(task).__name__}.{what} must give as many rows as it is asked for, {_TRIED}; "
                    f"given: {_form(leaf)}"
                )
                break


def _of_methods(task: Task) -> Iterator[str]:
    who, generator = type(task).__name__, torch.Generator().manual_seed(0)
    answers, other = task.made_up(_TRIED, generator), task.made_up(_TRIED, generator)
    truth = task.made_up_truth(_TRIED, generator)
    nothing = _called(task, "knowing_nothing", truth)
    tried: dict[str, Any] = {
        "loss": _called(task, "loss", answers, truth, None),
        "match": _called(task, "match", answers, other, 1.0),
        "by_row": _called(task, "by_row", answers, truth),
    }
    if AGREEMENT.name in task.shown:
        tried[AGREEMENT.name] = _called(task, "agreement", answers, other)
    if isinstance(nothing, Nothing):
        tried["knowing_nothing(...).by_row"] = nothing.by_row
    else:
        yield f"{who}.knowing_nothing must give a Nothing(words, by_row); given: {_form(nothing)}"
    for what, found in tried.items():
        if not isinstance(found, Tensor) or found.shape != (_TRIED,):
            yield f"{who}.{what} must give one number a row, ({_TRIED},); given: {_form(found)}"
        elif what in ("loss", "match") and not found.is_floating_point():
            yield f"{who}.{what} must give floating-point numbers; given: {found.dtype}"
    yield from _of_metrics(task, _called(task, "metrics", answers, truth))
    yield from _of_columns(task, _called(task, "columns", answers, AnswerColumns()))


def _of_columns(task: Task, found: Any) -> Iterator[str]:
    who = f"{type(task).__name__}.columns"
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found):
        yield f"{who} must give a value a row by header; given: {_form(found)}"
        return
    for name, values in found.items():
        if not isinstance(values, list | np.ndarray) or len(values) != _TRIED:
            yield f"{who} must give a list or an array of {_TRIED} values as {name}; given: {_form(values)}"


def _of_metrics(task: Task, found: Any) -> Iterator[str]:
    who, wanted = type(task).__name__, [name for name in task.shown if name != AGREEMENT.name]
    if not isinstance(found, dict) or set(found) != set(wanted):
        given = ", ".join(map(str, found)) if isinstance(found, dict) else _form(found)
        yield (
            f"{who}.metrics must give the metrics of shown but agreement, {', '.join(wanted)}; given: "
            f"{given or 'none'}"
        )
        return
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
            yield f"{who}.metrics must give a plain number for {name}; given: {_form(value)}"


def _called(task: Task, name: str, *given: Any) -> Any:
    """What the method gives. Raises UserError where it does not take what kdx hands to it."""
    try:
        return getattr(task, name)(*given)
    except TypeError as error:
        if error.__traceback__ and error.__traceback__.tb_next is None:  # the call itself
            raise UserError(f"{type(task).__name__}: {error}; see docs/task.md for its arguments") from error
        raise


def _form(value: Any) -> str:
    """Of a tensor its shape, of anything else itself."""
    return str(tuple(value.shape)) if isinstance(value, Tensor) and value.dim() else checks.shown(value)
