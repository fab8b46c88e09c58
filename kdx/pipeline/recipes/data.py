"""The data of a run, and of another one that stands in for its pool, as the recipes ask for them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from kdx.data.files import note_places
from kdx.pipeline.recipes.experiment import Experiment, OtherPool
from kdx.pipeline.stages import DECODE, PREPARE
from kdx.store.artifact import Artifact
from kdx.store.component import Component
from kdx.store.stage import subseed
from kdx.store.store import Store


def prepare_data(
    store: Store,
    experiment: Experiment,
    like: Mapping[str, Any] | None = None,
    *,
    fitted_on: Sequence[str] = (),
) -> Artifact:
    """The data set decoded, once for every seed, and split. like: the adapter of a network that reads these
    rows as it read its own. fitted_on: the splits that the adapter is made of, where it is not all that
    training may see.
    """
    more: dict[str, Any] = {"made_up": experiment.made_up} if experiment.made_up else {}
    if other := experiment.pool:
        _note_own_pool(store, experiment, other)
        more["pool"] = {
            "name": other.name,
            "decoded": None
            if other.source is None or other.makes
            else decoded_rows(store, other.source, f"{DECODE.name}-pool"),
            "maker": other.source if other.makes else None,
            "steps": other.steps,
            "limit": other.limit,
            "test": other.test,
            "classes": dict(other.classes),
        }
    more |= {"near": True} if experiment.near_copies else {}
    return store.run(
        PREPARE,
        decoded=decoded_rows(store, experiment.dataset, DECODE.name),
        dataset=experiment.dataset,
        **experiment.sizes,
        duplicates=experiment.duplicates,
        seed=subseed(experiment.seed, "split"),
        **(more | ({"like": like} if like else {}) | ({"fitted_on": fitted_on} if fitted_on else {})),
    )


def _note_own_pool(store: Store, experiment: Experiment, other: OtherPool) -> None:
    """Where a number of the data set's own hidden rows is asked for, which other rows stand in for."""
    asked = experiment.sizes["unlabelled"]
    if not asked or not other.source:
        return
    instead = (
        f"the keys of pool={other.name} say how many it makes"
        if other.makes
        else f"pool.limit={asked if isinstance(asked, int) else 'N'} takes so many of its rows"
    )
    store.listener.note(
        PREPARE.name,
        f"dataset.unlabelled={asked} counts rows of the data set's own pool, and pool={other.name} stands in "
        f"for it: {instead}",
        "info",
    )


def decoded_rows(store: Store, dataset: Component, name: str) -> Artifact:
    """A data set read. name: of the stage."""
    decoded = store.run(DECODE, name=name, dataset=dataset)
    if "lazy" in decoded.json("decoded.json") and not store.peek:  # its rows stay in files that may be moved
        spec = dataset.spec
        note_places(
            decoded.path,
            {key: os.path.abspath(os.path.expanduser(spec[key])) for key in dataset.places if spec.get(key)},
        )
    return decoded
