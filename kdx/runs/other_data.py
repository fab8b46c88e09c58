"""Another data set that stored weights are put to: found to fit them, and prepared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdx.config.keys import keys_of
from kdx.config.tried_data import describe_data
from kdx.config.wire import Order, with_sources
from kdx.core.class_names import nfc, wrong_names
from kdx.core.errors import UserError, UserErrors, rows_called, together
from kdx.data.phrases import counted
from kdx.data.raw import Description
from kdx.data.sizes import check_sizes
from kdx.pipeline.recipes.data import prepare_data
from kdx.runs.stored import Weights
from kdx.store.artifact import Artifact
from kdx.store.moved import kind_of_old
from kdx.store.store import Store
from kdx.store.work import Listener
from kdx.tasks.several_heads import without_heads

KIND = ("reads", "task", "example")
"""What weights and data must have alike."""


def other_data(order: Order, store: Path, weights: Sequence[Weights]) -> tuple[Artifact, list[str]]:
    """The data set of `order`, prepared in `store`, after it was found to fit every one of `weights`, and
    what is to be said of its test split. Raises UserErrors before any work."""
    errors: list[str] = []
    description = describe_data(order.experiment, errors)
    if description is not None:
        errors += check_sizes(description, **order.experiment.sizes)
        name = order.config["choices"]["dataset"]
        errors += misfits(weights, name, description, order.config["dataset"].get("length"))
    if errors:
        raise UserErrors(errors)
    order = with_sources(order, lambda text, level: None)
    like = read_alike(weights, description)
    kept = Store(store, replace(order.runtime, workers=0), Listener())
    try:
        data = prepare_data(kept, order.experiment, like)
    except PermissionError as error:
        raise UserError(
            f"the store '{store}' cannot be written, and the data has to be prepared there: "
            "name another with store=PATH"
        ) from error
    return data, held_out(description, order.experiment.sizes["test"], data)


def read_alike(weights: Sequence[Weights], found: Description) -> dict[str, Any] | None:
    """The adapter of the networks, where rows are read by what was fitted to those that they learned from;
    None where rows are as they are. Raises UserError where it differs from network to network.
    """
    if found.reads == "pictures":
        return None
    adapters = {json.dumps(kind_of_old(w.about)["adapter"], sort_keys=True) for w in weights}
    if len(adapters) > 1:
        raise UserError(
            f"the networks read {rows_called(found.reads)} otherwise, each as those that it learned from: "
            "measure them one by one"
        )
    fitted: dict[str, Any] | None = json.loads(adapters.pop())
    return fitted


def held_out(found: Description, test: Any, data: Artifact) -> list[str]:
    """What is said where not all rows of a folder were measured, as it has no test part."""
    if found.test is not None or not found.test_size_is_a_fallback:
        return []
    rows = data.json("data.json")["counts"]["test"]
    return [
        f"{rows:,} of {counted(found.train, noun_of(found.reads))} are the test split, drawn by "
        f"dataset.test={test}, as there is no test part: a larger one, such as 0.9, draws more"
    ]


def misfits(
    weights: Sequence[Weights], dataset: str, found: Description, length: int | None = None
) -> list[str]:
    """Why a data set cannot be put to these weights, each reason once: another shape, or other classes.
    length: its `dataset.length`, where it has that key."""
    alike: dict[str, list[Weights]] = {}
    for w in weights:
        alike.setdefault(json.dumps([dict(kind_of_old(w.about))[key] for key in KIND]), []).append(w)
    errors = []
    for same in alike.values():
        shape, classes = same[0].about.get("shape"), same[0].about.get("classes", [])
        who, several = together([w.who for w in same]), len(same) > 1
        kind = dict(kind_of_old(same[0].about))
        kind["task"] = without_heads(kind["task"])
        if kind["reads"] != found.reads or kind["task"]["_target_"] != found.task["_target_"]:
            errors.append(
                f"{who} {'read' if several else 'reads'} {kind['reads']} and dataset={dataset} has "
                f"{rows_called(found.reads)}, or asks for answers of another kind: choose another dataset"
            )
            continue
        if other := _other_length(kind["example"], found, length):
            errors.append(
                f"{who} {'read' if several else 'reads'} rows of {other} tokens and dataset={dataset} has "
                f"those of {length}: set dataset.length={other}"
            )
            continue
        if not classes:
            if {name: list(map(list, one[:1])) for name, one in kind["example"].items()} != {
                name: [list(one[0])] for name, one in found.example.items()
            } or kind["task"] != json.loads(json.dumps(found.task)):
                errors.append(
                    f"{who} {'were' if several else 'was'} made for rows or answers of another shape than "
                    f"those of dataset={dataset}: choose another dataset"
                )
            continue
        if list(found.shape) != shape and kind["reads"] != "pictures":
            errors.append(
                f"{who} {'take' if several else 'takes'} {rows_called(found.reads)} of {times(shape)} and "
                f"dataset={dataset} has {times(found.shape)}: give it the keys of the run that was learned in"
            )
        elif list(found.shape) != shape and same[0].names is None:
            remedy = (
                f"set dataset.image_size={shape[1]}"
                if found.shape[0] == shape[0] and "image_size" in keys_of("dataset", dataset)
                else "give classes_map=FILE, a line a class, theirs: ours, with which they are made that size"
            )
            if found.shape[0] != shape[0] and found.test_size_is_a_fallback:  # a folder
                remedy = (
                    f"these pictures are {'all grey' if found.shape[0] == 1 else 'not all grey'}, and those "
                    f"that were learned from {'were not' if found.shape[0] == 1 else 'were'}; save them as "
                    f"{'colours (RGB)' if found.shape[0] == 1 else 'grey'}, or give classes_map=FILE, a line "
                    "a class, theirs: ours, with which they are made so"
                )
            errors.append(
                f"{who} {'take' if several else 'takes'} pictures of {times(shape)} and dataset={dataset} "
                f"has {times(found.shape)}: {remedy}"
            )
        if same[0].names is not None:
            errors += _mapped(same[0].names, who, classes, dataset, found.classes)
            continue
        strange = [name for name in map(nfc, found.classes) if name not in set(map(nfc, classes))]
        if strange and len(strange) < len(found.classes):
            errors.append(
                f"dataset={dataset} has classes that {who} {'do' if several else 'does'} not know: "
                f"{', '.join(strange[:10])}; known are "
                f"{', '.join(map(str, classes[:10]))}{' and more' if len(classes) > 10 else ''}"
            )
        elif strange and len(found.classes) != len(classes):
            errors.append(
                f"{who} {'know' if several else 'knows'} {len(classes)} classes and dataset={dataset} has "
                f"{len(found.classes)}, none of the same name: give classes_map=FILE, a line a class, "
                "theirs: ours, or choose another dataset"
            )
    return errors


def _mapped(
    names: Mapping[str, str], who: str, classes: Sequence[Any], dataset: str, shown: Sequence[Any]
) -> list[str]:
    """What is wrong with a file of classes, theirs: ours. names: what it says; classes: of the network."""
    here, there = list(map(nfc, classes)), list(map(nfc, shown))
    errors = wrong_names("classes_map", names, there, here, (f"dataset={dataset} has", f"{who} learned"))
    if not errors and not any(names.get(name, name) in here for name in there):
        errors.append(
            f"dataset={dataset} has no class that {who} learned: it has {', '.join(there[:10])}, and learned "
            f"are {', '.join(here[:10])}; set classes_map=FILE, a line a class, theirs: ours"
        )
    return errors


def _other_length(example: Mapping[str, Any], found: Description, length: int | None) -> int | None:
    """Of how many tokens rows are that weights were made for, where a data set cuts them to another `length`
    and nothing else is known to differ; None else."""
    sizes = {
        int(one[0][0])
        for name, one in example.items()
        if name in found.example and list(found.example[name][0]) == [length] and len(one[0]) == 1
    }
    return sizes.pop() if len(sizes) == 1 and sizes != {length} else None


def noun_of(reads: str) -> str:
    """One row, in a sentence."""
    return "picture" if reads == "pictures" else "row"


def times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
