"""Losses and shifts, built and tried on made-up rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from kdx.config.kinds import TRIED_ROWS, task_of
from kdx.config.trying import trying
from kdx.core import checks
from kdx.core.errors import Caution, UserError, rows_called
from kdx.core.examples import blank, random_rows, stored_rows
from kdx.core.task import Categorical, Fitness, Task
from kdx.core.trees import leaves, tree
from kdx.core.types import Batch, Frozen, Objective, Outcome, Parts, Split
from kdx.data.pictures.rows import describe
from kdx.data.raw import Description
from kdx.data.views.augment import Mixup
from kdx.data.views.chain import Mixer, Step
from kdx.data.views.draws import Draws
from kdx.pipeline.stages.streams import missing_stream
from kdx.store.component import Component
from kdx.store.resolve import own_error

STAND_IN = describe((3, 64, 64), tuple("0123456789"), 1000, (100,) * 10, 100, 100)
"""Where the data cannot be read: what is wrong with the networks and losses in themselves is reported all the
same.
"""


def made_up(name: str, about: Description, task: Task) -> Batch:
    index = torch.arange(TRIED_ROWS)
    rows = random_rows(about.example, TRIED_ROWS)
    y = None if name == "unlabelled" else task.made_up_truth(TRIED_ROWS)
    return Batch(
        name,
        index,
        torch.ones(TRIED_ROWS, dtype=torch.int64),
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


def try_shift(name: str, shift: Component, about: Description | None, errors: list[str]) -> None:
    """Builds a shift, and looks at a made-up row through it. about: None where the data cannot be read: it is
    tried on a picture if it reads any.
    """
    before = len(errors)
    with trying(errors):
        step = shift.build()
    if len(errors) == before and not isinstance(step, Step):
        errors.append(
            f"shift.{name} needs a step of kdx.data.views.shift or kdx.data.views.augment; given "
            f"{type(step).__name__}: see `kdx list shift`"
        )
    if len(errors) == before and about is None:
        if step.reads != STAND_IN.reads:
            return
        about = STAND_IN
    if len(errors) == before and step.reads != about.reads:
        errors.append(
            f"shift.{name} changes {rows_called(step.reads)}, and this data set holds "
            f"{rows_called(about.reads)}: leave it out"
        )
    if len(errors) == before:
        row = torch.zeros(1, dtype=torch.int64)
        with trying(errors):
            step(random_rows(about.example, 1), Draws(0, "test", row, row + 1), name)
            _check_step(f"shift.{name}", step, about)


def try_steps(training: Component, about: Description, errors: list[str]) -> None:
    """Looks at made-up rows through each of the user's own steps. What is wrong with the settings is
    reported elsewhere.
    """
    with trying([]):
        settings = training.build()
        for name, step in (*settings.augment, *settings.strong_augment):
            if step.reads == about.reads:
                with trying(errors, f"augment.{name}: "):
                    _check_step(f"augment.{name}", step, about)


def _check_step(name: str, step: Step | Mixer, about: Description) -> None:
    """Whether a step of the user's own gives rows like those that it was given."""
    if type(step).__module__.partition(".")[0] == "kdx":
        return
    index = torch.arange(TRIED_ROWS)
    draws = Draws(0, "labelled", index, torch.ones_like(index))
    if isinstance(step, Mixer):
        rows = random_rows(about.example, TRIED_ROWS)
        partner, share = step.pairs(draws, name, TRIED_ROWS)
        made = step.blend(rows, tree(lambda leaf: leaf[partner], rows), share)
    else:
        rows = (stored_rows if step.moves_only else random_rows)(about.example, TRIED_ROWS)
        made = step(rows, draws, name)
    if _form(made) != (wanted := _form(rows)):
        checks.refuse(f"{name} must give rows like those that it is given, {wanted}; it gives {_form(made)}")


def _form(rows: Any) -> str:
    """The shape and type of rows, in words."""
    return " and ".join(
        f"{name} {str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)}".strip()
        if isinstance(leaf, torch.Tensor)
        else f"{name} {type(leaf).__name__}".strip()
        for name, leaf in sorted(leaves(rows).items())
    )


@dataclass(frozen=True)
class MadeUp:
    """What rows and their answers are like, for making up some."""

    data: Description
    task: Task


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
        lambda: student,
        lambda batch: task.made_up_by_teacher(len(batch)),
        live,
        validation,
        task,
        extras,
        blank(example),
    )


def try_loss(
    loss: Component,
    student: torch.nn.Module,
    streams: Mapping[str, Batch] | None,
    made: MadeUp,
    live: list[Frozen],
    mixer: str | None,
) -> Objective:
    """Builds a loss, and returns it; with streams, one forward and backward pass, in eval mode so that batch
    normalisation takes two rows. mixer: the key whose steps mix pictures, so that labels are probabilities;
    None: classes.
    """
    method, task = loss.resolve(), made.task
    Fitness(f"loss={loss.target.split('.')[-2]}", method.needs_task, "choose another loss, such as kd").check(
        task
    )
    if weights := loss.spec.get("weights"):
        weighting = Component(weights).resolve()
        Fitness(f"loss.weights={weighting.__name__}", weighting.needs_task, "leave it out").check(task)
    parts = parts_for(student, made, live, streams is None or "validation" in streams)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caution)  # two made-up rows say nothing about the data
        if streams is None or mixer is None:
            objective: Objective = loss.build(parts)
            push(objective, streams, student)
            return objective
        if "second" in loss.resolve().extra_views:
            raise UserError(
                f"{mixer} holds mixup, and {loss.target.rpartition('.')[2]} compares two views of a picture, "
                "of which only one could be mixed: leave mixup out"
            )
        try:
            shown = {name: mixed(batch, task) for name, batch in streams.items()}
            objective = loss.build(parts)
            push(objective, shown, student)
        except Exception as error:
            if isinstance(error, UserError) or not takes_classes(loss, parts, streams):
                raise
            raise UserError(
                f"{mixer} holds mixup, whose labels are probabilities of the classes, (B, {task.width}), and "
                f"{loss.target.rpartition('.')[2]} takes class numbers only "
                f"({own_error(error) or f'{type(error).__name__}: {error}'}): leave mixup out, or make the "
                "loss of kdx.core.math.cross_entropy, which takes both"
            ) from error
    return objective


def fits_stand_in(loss: Component) -> bool:
    """Whether a loss goes with the task of STAND_IN, so that it can be built without the data."""
    parts = [loss, *(Component(spec) for spec in [loss.spec.get("weights")] if spec)]
    task = task_of(STAND_IN)
    with trying([]):
        return all(isinstance(task, part.resolve().needs_task) for part in parts)
    return True


def takes_classes(loss: Component, parts: Parts, streams: Mapping[str, Batch]) -> bool:
    """Whether a loss that fails on mixed labels works on plain ones, so that they are the reason."""
    try:
        push(loss.build(parts), streams, parts.student)
    except Exception:
        return False
    return True


def push(objective: Objective, streams: Mapping[str, Batch] | None, student: torch.nn.Module) -> None:
    if streams is None:
        return
    for name in objective.uses:
        if name not in streams:
            checks.refuse(missing_stream(type(objective).__name__, name, list(streams)))
            return
    objective.eval()
    objective.refresh()
    outcome = objective(streams, 0.0)
    method = type(objective).__name__
    if not isinstance(outcome, Outcome) or not outcome.terms:
        checks.refuse(
            f"{method}.forward must return an Outcome with at least one term; given: {outcome!r:.80}"
        )
    elif wrong := [
        name for name, term in outcome.terms.items() if not isinstance(term, torch.Tensor) or term.dim()
    ]:
        checks.refuse(
            f"the terms of {method} must be scalars, such as `cross_entropy(logits, y).mean()`; not so: "
            f"{', '.join(wrong)}"
        )
    elif not outcome.loss.requires_grad:
        checks.refuse(
            f"the terms of {method} do not depend on the student, which would learn nothing: "
            f"{', '.join(outcome.terms)}"
        )
    else:
        outcome.loss.backward()
    student.zero_grad(set_to_none=True)
