"""A data set of the user's own, described and, where it is small, loaded before any work."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdx.config.trying import ON_MADE_UP, trying
from kdx.config.wire import Order, known
from kdx.core import checks, snapshot
from kdx.core.errors import UserError, WrongPart, type_name
from kdx.core.trees import leaves
from kdx.data import contract
from kdx.data.raw import PARTS, Description, Raw
from kdx.data.remarks import check_parts
from kdx.data.stored import InMemory
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.stages import DECODE
from kdx.store.component import Component
from kdx.store.declared import declared
from kdx.store.resolve import from_own_package
from kdx.store.store import Miss, Store
from kdx.store.work import Listener

_SEEDED = "draw from a generator with a seed of its own, such as numpy.random.default_rng(0)"
_LOADED = 1 << 24
"""Bytes of rows up to which a data set of the user's own is loaded before any work."""


def describe_data(experiment: Experiment, errors: list[str]) -> Description | None:
    """What the data set holds, without reading all of it; None (and the errors) where it cannot be read. The
    runs of a command ask once for each data set.
    """
    found, wrong = snapshot.once(_key("described", experiment), lambda: describe_loader(experiment.dataset))
    errors += wrong
    return found


def try_loader(order: Order, about: Description, errors: list[str]) -> None:
    """Loads a small data set of the user's own, which the store does not have yet: what `load` gives is held
    to what it must be, and to what it gives when it is asked again.
    """
    dataset = order.experiment.dataset
    rows = about.train + (about.test or 0) + (about.validation or 0) + about.pool
    if from_own_package(dataset.target) and rows * about.row_bytes() <= _LOADED:
        errors += snapshot.once(_key("loaded", order.experiment), lambda: _loaded(order, about))


def _key(what: str, experiment: Experiment) -> tuple[str, str, str]:
    return what, os.getcwd(), json.dumps(experiment.dataset.spec, sort_keys=True)


def describe_loader(dataset: Component) -> tuple[Description | None, list[str]]:
    """(what a data set holds, without reading all of it, errors)"""
    found: Any = None
    errors: list[str] = []
    own, target = from_own_package(dataset.target), dataset.target
    with trying(errors, own=target):
        loader = dataset.build()
        if not errors:
            if own:
                _check_loader(loader, target)
            loader.fetch()
            found = loader.describe()
            if not isinstance(found, Description):
                raise WrongPart(
                    f"{target}.describe must return a kdx.data.raw.Description; given: {checks.shown(found)}"
                )
            if own:
                _check_described(loader, found)
    return (None if errors else found), _less(errors)


def _check_loader(loader: Any, target: str) -> None:
    """Whether what a `_target_` made has the methods of a kdx.data.raw.Loader, and names its files. Raises
    WrongPart.
    """
    name = target.rpartition(".")[2]
    for method in ("files", "fetch", "describe", "load"):
        if not callable(getattr(loader, method, None)):
            raise WrongPart(f"{name} has no method {method}: a data set has files, fetch, describe and load")
    files = loader.files()
    if isinstance(files, str | bytes) or not isinstance(files, Mapping | list | tuple):
        raise WrongPart(f"{name}.files must give a list of paths, [] for none; it gives {type_name(files)}")
    for path in () if isinstance(files, Mapping) else files:
        if not isinstance(path, str | Path):
            raise WrongPart(f"{name}.files must give paths; one of them is {type_name(path)}")


def _check_described(loader: Any, described: Description) -> None:
    """Whether the counts of a Description go together, and it says the same each time. Raises WrongPart."""
    name, strata, classes = type(loader).__name__, described.strata, described.classes
    for what in ("train", "test", "validation", "pool"):
        rows = getattr(described, what)
        if not (isinstance(rows, int | np.integer) or (rows is None and what in ("test", "validation"))):
            raise WrongPart(f"{name}.describe: {what} must be a number of rows; given: {rows!r:.40}")
    if len(set(classes)) < len(classes):
        raise WrongPart(f"{name}.describe names a class twice: {', '.join(sorted(classes))}")
    if strata is not None and classes and len(strata) != len(classes):
        raise WrongPart(
            f"{name}.describe counts the rows of {len(strata)} classes, and names {len(classes)}: a label is "
            f"the number of a class, from 0 to {len(classes) - 1}"
        )
    if strata is not None and sum(strata) != described.train:
        raise WrongPart(
            f"{name}.describe: the rows of all classes are {sum(strata)}, and the train part has "
            f"{described.train}"
        )
    if loader.describe() != described:
        raise WrongPart(f"{name}.describe says something else when it is asked again: {_SEEDED}")


def _loaded(order: Order, about: Description) -> list[str]:
    errors: list[str] = []
    dataset = order.experiment.dataset
    with trying(errors, own=dataset.target):
        try:
            Store(order.store, order.runtime, Listener(), peek=True).run(
                DECODE, dataset=known(dataset, ahead=True)
            )
            return []
        except Miss:
            pass
        streams = {"write": InMemory} if declared(dataset.target, "streams", False) else {}
        try:
            raw = dataset.build().load(workers=0, **streams)
            contract.check_loaded(raw)
            # built anew, as the next run of the same key would
            if part := _differing_part(raw, dataset.build().load(workers=0, **streams)):
                raise WrongPart(
                    f"{dataset.target.rpartition('.')[2]}.load gives other rows of the {part} part when it "
                    f"is asked again: {_SEEDED}"
                )
            contract.check_describe_loader(raw, about)
            check_parts(raw)
        except UserError as error:
            raise WrongPart(str(error)) from error
    return _less(errors)


def _differing_part(one: Raw, other: Raw) -> str | None:
    """The first part whose rows, truth or groups are not the same in both; None: they hold the same."""
    for part in PARTS:
        pairs = [*zip(one.part(part), other.part(part), strict=True)]
        if part == "train":
            pairs.append((one.strata(part), other.strata(part)))
        if not all(_equal(a, b) for a, b in pairs):
            return part
    return None


def _equal(one: Any, other: Any) -> bool:
    """Whether arrays, alone or by name, hold the same. NaN, which may stand for no number, is one value."""
    if one is None or other is None:
        return one is other
    mine, others = ({name: leaf[:] for name, leaf in leaves(value).items()} for value in (one, other))
    return mine.keys() == others.keys() and all(
        np.array_equal(leaf, others[name], equal_nan=leaf.dtype.kind == "f") for name, leaf in mine.items()
    )


def _less(errors: list[str]) -> list[str]:
    """No made-up data are in it."""
    return [error.replace(ON_MADE_UP, "") for error in errors]
