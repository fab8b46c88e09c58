"""Losses, built and tried on made-up rows."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from kdx.config.kinds import TRIED_ROWS, adapter_of, task_of
from kdx.config.trying import trying
from kdx.core import checks
from kdx.core.errors import Caution, UserError, WrongPart, nearest
from kdx.core.examples import blank, random_rows, stored_rows
from kdx.core.fitness import Fitness
from kdx.core.task import Categorical, Task
from kdx.core.trees import tree
from kdx.core.types import Batch, Features, Frozen, Objective, Outcome, Parts, Split, Teacher
from kdx.data.pictures.rows import describe
from kdx.data.raw import Description
from kdx.data.views.augment import Mixup
from kdx.models import build_for
from kdx.pipeline.stages.streams import missing_stream
from kdx.store.component import Component, terms_of
from kdx.store.resolve import from_own_package, own_error

MORE_ROWS = 64
STREAMS = ("labelled", "unlabelled", "validation")
"""What a loss may read of every data set; a recipe may lay down further ones, under names of its own."""
STAND_IN = describe((3, 64, 64), tuple("0123456789"), 1000, (100,) * 10, 100, 100)
"""Where the data cannot be read: what is wrong with the networks and losses in themselves is reported all the
same.
"""


def made_up(name: str, about: Description, task: Task, count: int = TRIED_ROWS) -> Batch:
    index = torch.arange(count)
    rows = random_rows(about.example, count)
    y = None if name == "unlabelled" else task.made_up_truth(count)
    return Batch(
        name,
        index,
        torch.ones(count, dtype=torch.int64),
        dict.fromkeys(("main", "clean", "second", "strong"), rows),
        y,
    )


def mixes(training: Component | None) -> bool:
    """Whether a stage mixes pictures, and their labels with them. What is wrong with its settings is reported
    elsewhere.
    """
    with trying([]):
        return training is not None and any(isinstance(step, Mixup) for _, step in training.build().augment)
    return False


def mixed(batch: Batch, task: Task) -> Batch:
    """The batch with truth such as mixup makes: of each row and the next one."""
    if batch.y is None:
        return batch
    other = tree(lambda leaf: leaf.roll(1, dims=0), batch.y)
    return replace(batch, y=task.mix(batch.y, other, torch.full((len(batch),), 0.75)))


@dataclass(frozen=True)
class MadeUp:
    """What rows and their answers are like, for making up some. teacher: who answers them, None: answers are
    made up."""

    data: Description
    task: Task
    teacher: Teacher | None = None


def parts_for(student: torch.nn.Module, made: MadeUp, live: list[Frozen], validated: bool) -> Parts:
    """Parts of made-up rows and answers. validated: whether there is a validation split."""
    task, example = made.task, made.data.example
    validation = (
        Split("validation", stored_rows(example, TRIED_ROWS), task.made_up_truth(TRIED_ROWS))
        if validated
        else None
    )
    several = (
        task.spread([task.made_up(TRIED_ROWS), task.made_up(TRIED_ROWS)])
        if isinstance(task, Categorical)
        else {}
    )
    extras = {name: lambda batch, values=values: values[: len(batch)] for name, values in several.items()}
    return Parts(
        student,
        lambda: copy.deepcopy(student),
        made.teacher or (lambda batch: task.made_up_by_teacher(len(batch))),
        live,
        validation,
        task,
        extras,
        blank(example),
        rows=dict.fromkeys(STREAMS, TRIED_ROWS),
        build=lambda model: build_for(
            model, task=task, example=made.data.example, reads=made.data.reads, adapter=adapter_of(made.data)
        ),
    )


def try_loss(
    loss: Component,
    student: torch.nn.Module,
    streams: Mapping[str, Batch] | None,
    made: MadeUp,
    live: list[Frozen],
    mixer: str | None,
    called: str,
) -> Objective:
    """Builds a loss, and returns it; with streams, one forward and backward pass, in eval mode so that batch
    normalisation takes two rows. mixer: the key whose steps mix pictures, so that labels are probabilities;
    None: classes. called: what sentences call the loss.
    """
    method, task = loss.resolve(), made.task
    check_method(called, method, Objective)
    Fitness(called, method.needs_task, "choose another loss, such as kd").check(task)
    if not (task.labels or method.acts or method.reads):
        raise UserError(
            f"{called} learns from labels alone, and an answer here is "
            f"{task.words}, without labels, so that it would learn nothing of the task: choose loss=kd"
        )
    if weights := loss.spec.get("weights"):
        weighting, name = Component(weights).resolve(), weights["_target_"].split(".")[-2]
        Fitness(f"loss.weights={name}", weighting.needs_task, "leave it out").check(task)
    for name, spec in terms_of(loss.spec).items():
        term = Component(spec).resolve()
        check_method(f"loss.features={name}", term, Features)
        Fitness(f"loss.features={name}", term.needs_task, "leave it out").check(task)
    parts = parts_for(student, made, live, streams is None or "validation" in streams)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caution)  # two made-up rows say nothing about the data
        if streams is None or mixer is None:
            objective: Objective = loss.build(parts)
            if wrong := push(objective, streams, student, called):
                _push_more(loss, student, streams, made, live, wrong)
            return objective
        if "second" in loss.resolve().extra_views:
            raise UserError(
                f"{mixer} holds mixup, and {called} compares two views of a picture, "
                "of which only one could be mixed: leave mixup out"
            )
        try:
            shown = {name: mixed(batch, task) for name, batch in streams.items()}
            objective = loss.build(parts)
            push(objective, shown, student, called)
        except Exception as error:
            if isinstance(error, UserError) or not takes_classes(loss, parts, streams):
                raise
            raise UserError(
                f"{mixer} holds mixup, whose labels are probabilities of the classes, (B, {task.width}), and "
                f"{called} takes class numbers only "
                f"({own_error(error) or f'{type(error).__name__}: {error}'}): leave mixup out, or make the "
                "loss of kdx.core.math.cross_entropy, which takes both"
            ) from error
    return objective


def try_moving(
    moving: Component,
    loss: Component,
    student: torch.nn.Module,
    streams: Mapping[str, Batch] | None,
    made: MadeUp,
    teacher: torch.nn.Module,
    called: str,
) -> None:
    """The same of a loss whose teacher moves."""
    live = [Frozen(copy.deepcopy(teacher))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caution)
        parts = parts_for(student, made, live, streams is None or "validation" in streams)
        push(moving.build(parts, loss=loss), streams, student, called)


def check_method(name: str, method: Any, kind: type) -> None:
    """Whether a class that a slot names is one of the slot's kind, and what it declares can be read. Raises
    WrongPart.
    """
    if not (isinstance(method, type) and issubclass(method, kind)):
        raise WrongPart(f"{name} must be a class derived from {kind.__module__}.{kind.__name__}")
    if not (isinstance(method.needs_task, type) and issubclass(method.needs_task, Task)):
        raise WrongPart(f"{name}: needs_task must be a class of tasks, such as kdx.core.task.Categorical")
    for key in ("uses", "may_use") if kind is Objective else ():
        named = getattr(method, key, None)
        if not isinstance(named, tuple | list):
            raise WrongPart(f'{name}: {key} must name the streams that it reads, such as ("labelled",)')
        for stream in named:
            slip = nearest(str(stream), STREAMS)
            if stream == "test" or (stream not in STREAMS and "did you mean" in slip):
                raise WrongPart(f"{name}: {key} names '{stream}'{slip}")


def _push_more(
    loss: Component,
    student: torch.nn.Module,
    streams: Mapping[str, Batch] | None,
    made: MadeUp,
    live: list[Frozen],
    wrong: Mapping[str, float],
) -> None:
    """Two rows may be too few for a statistic: with more of them terms of the user's own must be finite."""
    if not from_own_package(loss.target):
        return
    more = {name: made_up(name, made.data, made.task, MORE_ROWS) for name in streams or ()}
    parts = parts_for(student, made, live, "validation" in more)
    if wrong := push(loss.build(parts), more, student):
        said = ", ".join(f"'{name}' is {value}" for name, value in wrong.items())
        raise WrongPart(f"the terms of {loss.target.rpartition('.')[2]} must be finite: {said}")


def fits_stand_in(loss: Component) -> bool:
    """Whether a loss goes with the task of STAND_IN, so that it can be built without the data."""
    weights = loss.spec.get("weights")
    slots = [*([weights] if weights else []), *terms_of(loss.spec).values()]
    parts = [loss, *map(Component, slots)]
    task = task_of(STAND_IN)
    with trying([], own=loss.target):
        acts = getattr(loss.resolve(), "acts", False)  # and the rows of STAND_IN are no states
        return not acts and all(isinstance(task, part.resolve().needs_task) for part in parts)
    return True


def takes_classes(loss: Component, parts: Parts, streams: Mapping[str, Batch]) -> bool:
    """Whether a loss that fails on mixed labels works on plain ones, so that they are the reason."""
    try:
        push(loss.build(parts), streams, parts.student)
    except Exception:
        return False
    return True


def push(
    objective: Objective, streams: Mapping[str, Batch] | None, student: torch.nn.Module, called: str = ""
) -> dict[str, float]:
    """One forward and backward pass. called: what sentences call the loss, "" by its class. Returns the terms
    that are not finite."""
    method = type(objective).__name__
    if "_modules" not in vars(objective):
        raise WrongPart(f"{method}.__init__ must call super().__init__(parts) first")
    if streams is None:
        return {}
    for name in objective.uses:
        if name not in streams:
            checks.refuse(missing_stream(called or method, name, list(streams)))
            return {}
    shown = {name: streams[name] for name in (*objective.uses, *objective.may_use) if name in streams}
    objective.eval()
    objective.refresh()
    outcome = objective(shown, 0.0)
    if not isinstance(outcome, Outcome) or not outcome.terms:
        raise WrongPart(
            f"{method}.forward must return an Outcome with at least one term; given: {outcome!r:.80}"
        )
    if wrong := [
        name for name, term in outcome.terms.items() if not isinstance(term, torch.Tensor) or term.dim()
    ]:
        raise WrongPart(
            f"the terms of {method} must be scalars, such as `cross_entropy(logits, y).mean()`; not so: "
            f"{', '.join(wrong)}"
        )
    if not outcome.loss.requires_grad:
        raise WrongPart(
            f"the terms of {method} do not depend on the student, which would learn nothing: "
            f"{', '.join(outcome.terms)}"
        )
    outcome.loss.backward()
    student.zero_grad(set_to_none=True)
    return {name: value for name, term in outcome.terms.items() if not math.isfinite(value := term.item())}
