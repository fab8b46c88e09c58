"""Augmentations and shifts of the user's own, tried on made-up rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kdx.config.kinds import TRIED_ROWS, trainings_of
from kdx.config.trials import STAND_IN
from kdx.config.trying import trying
from kdx.core.errors import WrongPart, rows_called
from kdx.core.examples import random_rows, stored_rows
from kdx.core.trees import leaves, tree
from kdx.data.pictures.rows import READS
from kdx.data.raw import Description
from kdx.data.views.attacks import Attack
from kdx.data.views.chain import Mixer, Step, changes
from kdx.data.views.draws import Draws
from kdx.data.views.transform import OVERSHOOT, Transformed
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.stages.streams import lengths
from kdx.store.component import Component
from kdx.store.resolve import from_own_package
from kdx.training.depth import check_head_first

_ROUNDING = 1e-3
"""How far beyond [0, 1] pixels may be."""
_LOOKED_AT = 8
"""Views of made-up pictures that are looked at for pixels beyond."""


def try_shift(name: str, shift: Component, about: Description | None, errors: list[str]) -> None:
    """Builds a shift, and looks at a made-up row through it. about: None where the data cannot be read: it is
    tried on a picture if it reads any.
    """
    before = len(errors)
    with trying(errors, own=shift.target):
        step = shift.build()
    attack = len(errors) == before and isinstance(step, Attack)
    if len(errors) == before and not isinstance(step, Step | Attack):
        errors.append(
            f"shift.{name} needs a step of kdx.data.views.shift or kdx.data.views.augment; given "
            f"{type(step).__name__}: see `kdx list shift`"
        )
    if len(errors) == before and about is None:
        if step.reads != STAND_IN.reads:
            return
        about = STAND_IN
    if len(errors) == before and attack and len(about.example) > 1:
        errors.append(
            f"shift.{name} moves the values of pictures, and a row of this data set holds several inputs: "
            "leave it out"
        )
    if len(errors) == before:
        about = about.of_kind(step.reads)
    if len(errors) == before and not changes(step, about.reads):
        errors.append(
            f"shift.{name} changes {rows_called(step.reads)}, and this data set holds "
            f"{rows_called(about.reads)}: leave it out"
        )
    if len(errors) == before and not attack:
        row = torch.zeros(1, dtype=torch.int64)
        with trying(errors, f"shift.{name}: ", own=shift.target):
            step(random_rows(about.example, 1), Draws(0, "test", row, row + 1), name)
            _check_step(name, step, about)


def builds_own_steps(training: Component, errors: list[str]) -> bool:
    """Builds the steps of the user's own, each alone, so that what is wrong with one is said of it; whether
    all can be built.
    """
    before = len(errors)
    for _, spec in (*training.spec["augment"], *training.spec["strong_augment"]):
        if from_own_package(spec["_target_"]):
            with trying(errors, own=spec["_target_"]):
                Component(spec).call()
    return len(errors) == before


def try_steps(training: Component, about: Description, errors: list[str]) -> None:
    """Looks at made-up rows through each of the user's own steps. What is wrong with the settings is
    reported elsewhere.
    """
    with trying([]):
        settings = training.build()
        for name, step in (*settings.augment, *settings.strong_augment):
            if isinstance(step, Step | Mixer) and changes(step, about.reads):
                held = about.of_kind(step.reads)
                own = f"{type(step).__module__}.{type(step).__qualname__}"
                with trying(errors, f"augment.{name}: ", own=own):
                    _check_step(name, step, held)


def check_head_steps(experiment: Experiment, rows: Mapping[str, int], errors: list[str]) -> None:
    """Whether the last layer of a teacher learns alone for no longer than its training lasts. rows: of each
    split, empty where they are not known."""
    for node, training in trainings_of(experiment):
        first = training.spec.get("head_first") if training else None
        if training and rows and type(first) is int:
            with trying(errors):
                check_head_first(node, first, lengths(training, rows, ["labelled"], node)[0])


def _check_step(name: str, step: Step | Mixer, about: Description) -> None:
    """Whether a step of the user's own gives rows like those that it was given."""
    if type(step).__module__.partition(".")[0] == "kdx":
        return
    index = torch.arange(TRIED_ROWS)
    draws = Draws(0, "labelled", index, torch.ones_like(index))
    if isinstance(step, Mixer):
        rows = random_rows(about.example, TRIED_ROWS)
        made = _mixed(name, step, rows, draws)
    else:
        rows = (stored_rows if step.moves_only else random_rows)(about.example, TRIED_ROWS)
        made = step(tree(torch.clone, rows), draws, name)
    if _form(made) != (wanted := _form(rows)):
        raise WrongPart(f"must give rows like those that it is given, {wanted}; it gives {_form(made)}")
    if isinstance(step, Step):
        _check_pure(name, step, rows, made)
    if about.reads == READS:
        _check_range(name, step, about)


def _mixed(name: str, step: Mixer, rows: Any, draws: Draws) -> Any:
    partner, share = step.pairs(draws, name, min(map(len, leaves(rows).values())))
    return step.blend(rows, tree(lambda leaf: leaf[partner], rows), share)


def _check_range(name: str, step: Step | Mixer, about: Description) -> None:
    """Whether pictures stay in [0, 1], as networks normalise what they read by the mean of such."""
    index = torch.arange(_LOOKED_AT)
    draws, most = Draws(0, "labelled", index, torch.ones_like(index)), _ROUNDING
    for like in (torch.round, torch.zeros_like, torch.ones_like, torch.clone):
        rows = tree(like, random_rows(about.example, _LOOKED_AT))
        if isinstance(step, Mixer):
            made = _mixed(name, step, rows, draws)
        elif isinstance(step, Transformed):
            made, most = step.uncut(rows, draws, name), OVERSHOOT
        elif step.moves_only:
            return
        else:
            made = step(rows, draws, name)
        for leaf in leaves(made).values():
            if leaf.is_floating_point() and (leaf.min() < -most or leaf.max() > 1 + most):
                raise WrongPart(
                    f"gives pixels from {leaf.min():.3g} to {leaf.max():.3g}, and pictures are in [0, 1]: "
                    "leave normalisation out, as the network normalises itself, or end with .clamp(0, 1)"
                )


def _check_pure(name: str, step: Step, rows: Any, made: Any) -> None:
    """Whether the same row and view give the same numbers whatever is beside them, and finite ones."""
    index = torch.arange(TRIED_ROWS)
    if not all(leaf.isfinite().all() for leaf in leaves(made).values() if leaf.is_floating_point()):
        raise WrongPart("gives NaN or infinite numbers")
    again = step(tree(torch.clone, rows), Draws(0, "labelled", index, torch.ones_like(index)), name)
    if not _same(again, made):
        raise WrongPart(
            "gives other numbers when it is asked again: take what is random from `draws`, so that "
            "a view is the same wherever it is made"
        )
    last = index[-1:]
    alone = step(tree(lambda leaf: leaf[-1:], rows), Draws(0, "labelled", last, torch.ones_like(last)), name)
    if not _same(alone, tree(lambda leaf: leaf[-1:], made), near=True):
        raise WrongPart("gives a row other numbers beside other rows: each must hang on itself alone")


def _same(one: Any, other: Any, near: bool = False) -> bool:
    """near: but for the rounding of another batch size."""
    pairs = [(leaf, leaves(other)[name]) for name, leaf in leaves(one).items()]
    if near:
        return all(torch.allclose(a.double(), b.double(), 1e-4, 1e-5) for a, b in pairs)
    return all(torch.equal(a, b) for a, b in pairs)


def _form(rows: Any) -> str:
    """The shape and type of rows, in words."""
    return " and ".join(
        f"{name} {str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)}".strip()
        if isinstance(leaf, torch.Tensor)
        else f"{name} {type(leaf).__name__}".strip()
        for name, leaf in sorted(leaves(rows).items())
    )
