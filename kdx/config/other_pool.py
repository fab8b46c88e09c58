"""Whether rows of another data set can stand in for the pool, or for the test rows, of the one that a run
learns from: before any work."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

from kdx.config.tried_data import describe_loader
from kdx.config.trying import trying
from kdx.core import snapshot
from kdx.core.class_names import nfc, wrong_names
from kdx.core.errors import UserError, UserErrors, rows_called
from kdx.data.making import RowMaker
from kdx.data.raw import Description
from kdx.data.views.attacks import Attack
from kdx.data.views.chain import Step, changes
from kdx.pipeline.recipes.experiment import Experiment, OtherPool
from kdx.pipeline.stages.matched_classes import no_shared_classes
from kdx.store.component import Component


def check_other_pool(experiment: Experiment, about: Description, errors: list[str]) -> None:
    other = experiment.pool
    if other is None:
        return
    if other.steps:
        check_changes("pool.by", other.steps, about, errors, "set pool=own")
    elif other.source and other.makes:
        with trying(errors):
            maker: RowMaker = other.source.build()
            if maker.reads != about.reads:
                raise UserError(
                    f"pool={other.name} makes {rows_called(maker.reads)}, and this data set holds "
                    f"{rows_called(about.reads)}: set pool=own"
                )
            maker.check(about)
    elif other.source:
        _check_data_set(other, about, errors)


def check_changes(
    key: str,
    steps: Iterable[tuple[str, Component | None]],
    about: Description,
    errors: list[str],
    instead: str,
) -> None:
    """Whether rows can be changed by these steps before any network is there. key: that names them; None: a
    step that changes nothing. instead: what to do where they cannot."""
    for name, described_step in steps:
        if described_step is None:
            continue
        with trying(errors):
            step: Step | Attack = described_step.build()
            if isinstance(step, Attack):
                raise UserError(
                    f"{key}: {name} moves rows against a network, and these are there before any: name "
                    "a step such as rotation, and attack the test rows with shift="
                )
            if not changes(step, about.reads):
                raise UserError(
                    f"{key}: {name} changes {rows_called(step.reads)}, and this data set holds "
                    f"{rows_called(about.reads)}: {instead}"
                )


def _check_data_set(other: OtherPool, about: Description, errors: list[str]) -> None:
    if other.source is None:
        return
    source = other.source
    key = ("described", os.getcwd(), json.dumps(source.spec, sort_keys=True))
    found, wrong = snapshot.once(key, lambda: describe_loader(source))
    errors += [_of_the_pool(text, other.name) for text in wrong]
    if found is not None:
        with trying(errors):
            _fits(other, found, about)


def _of_the_pool(text: str, name: str) -> str:
    """What is wrong with a data set, in the keys of the pool that it is."""
    return text.replace("dataset.", "pool.").replace("dataset=", "pool=")


def _fits(other: OtherPool, found: Description, about: Description) -> None:
    """Raises UserError where its rows cannot stand beside those of the data set."""
    if found.reads != about.reads:
        raise UserError(
            f"pool={other.name} holds {rows_called(found.reads)}, and this data set "
            f"{rows_called(about.reads)}: choose a pool of the same kind, or leave it out"
        )
    if found.reads == "pictures":
        if (
            found.shape
            and about.shape
            and found.shape[0] != about.shape[0]
            and {
                found.shape[0],
                about.shape[0],
            }
            != {1, 3}
        ):
            raise UserError(
                f"pool={other.name} has pictures of {found.shape[0]} channels, and this data set those of "
                f"{about.shape[0]}: only grey (1) and colours (3) are made each other; choose another pool"
            )
    elif about.reads == "table" and found.example != about.example:
        raise UserError(
            f"pool={other.name} has other columns than the data set: a network reads those of its labelled "
            "rows; choose a pool of the same columns"
        )
    whose = (f"pool={other.name} has", "the data set has")
    wrong = wrong_names("pool.classes_map", other.classes, found.classes or (), about.classes or (), whose)
    if wrong:
        raise UserErrors(wrong)
    if other.test is False:
        return
    if found.task["_target_"] != about.task["_target_"]:
        raise UserError(
            f"pool={other.name} asks for answers of another kind than the data set, so nothing can be tested "
            "there: set pool.test=false"
        )
    if type(other.test) is int and found.test is None and other.test >= found.train:
        raise UserError(
            f"pool.test={other.test} rows are to be tested on, and pool={other.name} has {found.train:,} in "
            "all, of which some must be left for the pool: set it lower, or pool.test=true"
        )
    names = [nfc(other.classes.get(name, name)) for name in map(nfc, found.classes)]
    if about.classes and not set(names) & set(map(nfc, about.classes)):
        raise UserError(no_shared_classes(other.name, found.classes, about.classes))
