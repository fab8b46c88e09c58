"""Whether a task and metrics of the user's own give what they promise: both are tried on made-up rows before
any work.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdx.config.trying import trying
from kdx.core import checks
from kdx.core.answers import AnswerColumns, Nothing
from kdx.core.errors import Caution, UserError, UserErrors, WrongPart
from kdx.core.fitness import Fitness
from kdx.core.metric import Metric, checked_metric
from kdx.core.own_metric import OwnMetric
from kdx.core.task import Categorical, Task
from kdx.core.trees import leaves, tree
from kdx.methods.select import Pool, Rule, check_chosen
from kdx.store.component import Component
from kdx.store.resolve import from_own_package
from kdx.tasks.shown import AGREEMENT, CLASSIFICATION, MAE, MSE, R2, RMSE

_TRIED = 3
"""Made-up rows that a task is tried on: a (B, 1) is none of (B,), and no axis of anything else is as long."""
_POOL = 64
_READ_BY_RULES = ("teacher", "student", "features", "labelled_features")
_TAKEN = (
    *("n", "recall", "reliability", "confusion", "figures", AGREEMENT.name),
    *("arrays", "confused", "predicted", "mistaken_for", "mistaken"),
    *("train", "validation", "test"),
)
"""What results use beside the names of metrics."""
_NEEDED = ("shown", "primary", "paired", "width", "words")


def check_task(task: Task) -> None:
    """Raises UserErrors with all that is wrong with what the task gives to made-up rows."""
    if wrong := [*_of_attributes(task)] or [*_of_rows(task)] or [*_of_methods(task)]:
        raise UserErrors(wrong)


def taken_names() -> set[str]:
    """What a metric of the user's own may not be called, whatever the task: beside what results use, the
    metrics of kdx's tasks."""
    return {*_TAKEN, *CLASSIFICATION, *(metric.name for metric in (RMSE, MSE, MAE, R2))}


def check_metric(metric: OwnMetric, name: str, task: Task) -> None:
    """Tries it on made-up answers. Raises UserError."""
    if name in task.shown:
        raise UserError("the task has a metric of that name: give it another")
    if name in _TAKEN:
        raise UserError(f"results keep something else as '{name}': give the metric another name")
    if not isinstance(getattr(metric, "metric", None), Metric):
        raise WrongPart(f"{type(metric).__name__}.metric must be a kdx.core.metric.Metric")
    checked_metric(metric.metric.document(), "metric")
    generator = torch.Generator().manual_seed(0)
    answers, truth = task.made_up(_TRIED, generator), task.made_up_truth(_TRIED, generator)
    kept = tree(torch.clone, answers)
    value = metric.measure(answers, truth)
    if any(not torch.equal(leaf, leaves(kept)[leafed]) for leafed, leaf in leaves(answers).items()):
        raise WrongPart("measure changes the answers that it is given: work on a copy")
    again = metric.measure(answers, truth)
    if isinstance(value, bool) or not isinstance(value, int | float):
        given = _form(value) if isinstance(value, Tensor) and value.dim() else checks.shown(value)
        raise WrongPart(f"measure must return a number, such as found.mean().item(); given: {given}")
    if value != again and not (math.isnan(value) and math.isnan(again)):
        raise WrongPart(
            f"measure must return the same number each time; given: {value:.6g}, then {again:.6g}"
        )
    low, high = metric.metric.low, metric.metric.high
    if (low is not None and value < low) or (high is not None and value > high):
        raise WrongPart(
            f"measure returns {value:.6g}, and the metric says that values are from {low} to {high}: mend "
            "either (scale is what a value is multiplied by to be shown)"
        )


def is_rule(described: Component) -> bool:
    """Whether it is the address of a rule of choice. What is wrong with it is said by `check_rule`."""
    with trying([], own=described.target):
        made = described.resolve()
        return isinstance(made, type) and issubclass(made, Rule)
    return False


def check_rule(described: Component, task: Task) -> None:
    """Builds a rule of choice; one of the user's own is tried on the logits of a made-up pool. Raises
    UserError.
    """
    made, name = described.resolve(), described.target.split(".")[-2]
    if not is_rule(described):
        raise WrongPart(f"select={name} must be a class derived from kdx.methods.select.Rule")
    needs = getattr(made, "needs", None)
    if not isinstance(needs, tuple | list) or (odd := [one for one in needs if one not in _READ_BY_RULES]):
        given = "" if needs is None or isinstance(needs, str) else f"; '{odd[0]}' is none"
        raise WrongPart(
            f"select={name}: needs must name what it reads, of {', '.join(_READ_BY_RULES)}{given}"
        )
    rule: Rule = described.build()
    Fitness(f"select={name}", rule.needs_task, "leave it out").check(task)
    if from_own_package(described.target):
        _try_rule(rule, task)


def _try_rule(rule: Rule, task: Task) -> None:
    """One that refuses made-up rows, as none of them is sure enough say, may take real ones."""
    draw = np.random.default_rng(0)
    classes = len(task.classes) if isinstance(task, Categorical) else 0
    width = (_POOL, max(classes, 1))
    arrays = {name: draw.normal(0, 3, width).astype(np.float32) for name in rule.needs}
    pool = Pool(classes, np.zeros(_POOL, bool), wrong=0.2, **arrays)
    wrong: list[str] = []
    with contextlib.suppress(UserError), warnings.catch_warnings():
        warnings.simplefilter("ignore", Caution)
        found, again = (rule.choose(pool, _POOL // 4 if rule.buys else None, 0) for _ in range(2))
        wrong = [*_of_choice(rule, found, again)]
    if wrong:
        raise WrongPart(wrong[0])


def _of_choice(rule: Rule, found: Any, again: Any) -> Iterator[str]:
    try:
        check_chosen(found, _POOL, type(rule).__name__)
    except WrongPart as error:
        yield str(error)
        return
    if not np.array_equal(found.rows, again.rows):
        yield (
            f"{type(rule).__name__} chooses other rows when it is asked again: draw from "
            "numpy.random.default_rng(seed)"
        )


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
    yield from _of_columns(task, "columns", _called(task, "columns", answers, AnswerColumns()))
    yield from _of_columns(task, "truth_columns", known := _called(task, "truth_columns", truth))
    if isinstance(known, dict) and (odd := [name for name in known if str(name).split(":")[0] != "truth"]):
        yield f"{who}.truth_columns: each header must be truth, or begin with truth: ; given: {odd[0]}"


def _of_columns(task: Task, method: str, found: Any) -> Iterator[str]:
    who = f"{type(task).__name__}.{method}"
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
