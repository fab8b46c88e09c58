"""Stored weights put to the test: measured on a split of their own or other data."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kdx.config.tried_data import describe_data
from kdx.config.wire import Order, with_sources
from kdx.core.errors import UserError, UserErrors, together
from kdx.core.task import OwnMetric
from kdx.core.trees import all_finite
from kdx.core.types import Answers, Split
from kdx.data.phrases import counted
from kdx.data.raw import Description
from kdx.data.sizes import check_sizes
from kdx.pipeline.recipes.steps import prepare_data
from kdx.pipeline.stages.arrays import build_task, open_split
from kdx.pipeline.stages.measuring import build_metric
from kdx.runs.stored import Weights
from kdx.store.artifact import Artifact
from kdx.store.component import Component, targets
from kdx.store.moved import kind_of_old
from kdx.store.resolve import own_error
from kdx.store.store import Store
from kdx.store.work import Listener
from kdx.tasks import chance
from kdx.tasks.classification import Classification
from kdx.training.predict import Condensing, predict
from kdx.training.runtime import Runtime

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
            f"the networks read {found.reads} otherwise, each as those that it learned from: measure them "
            "one by one"
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
        kind = kind_of_old(same[0].about)
        if kind["reads"] != found.reads or kind["task"]["_target_"] != found.task["_target_"]:
            errors.append(
                f"{who} {'read' if several else 'reads'} {kind['reads']} and dataset={dataset} has "
                f"{found.reads}, or asks for answers of another kind: choose another dataset"
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
                f"{who} {'take' if several else 'takes'} {found.reads} of {times(shape)} and "
                f"dataset={dataset} has {times(found.shape)}: give it the keys of the run that was learned in"
            )
        elif list(found.shape) != shape:
            remedy = "choose another dataset, or set dataset.image_size where it has one"
            if found.shape[0] != shape[0] and found.test_size_is_a_fallback:  # a folder
                remedy = (
                    f"these pictures are {'all grey' if found.shape[0] == 1 else 'not all grey'}, and those "
                    f"that were learned from {'were not' if found.shape[0] == 1 else 'were'}; save them as "
                    f"{'colours (RGB)' if found.shape[0] == 1 else 'grey'}"
                )
            errors.append(
                f"{who} {'take' if several else 'takes'} pictures of {times(shape)} and dataset={dataset} "
                f"has {times(found.shape)}: {remedy}"
            )
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
                f"{len(found.classes)}, none of the same name"
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


def network_by_name(weights: Weights, shown: Sequence[str]) -> list[int] | None:
    """The number that each class of a data set has for the network, which may know more, in any order; None
    where they share no name, and are matched by position."""
    if list(shown) == weights.about.get("classes", []):
        return list(range(len(shown)))
    numbers = {nfc(name): number for number, name in enumerate(weights.about.get("classes", []))}
    found = [numbers.get(nfc(name)) for name in shown]
    return None if None in found else found


def nfc(name: Any) -> str:
    """A class's name, however a system wrote its accents."""
    return unicodedata.normalize("NFC", str(name))


def noun_of(reads: str) -> str:
    """One row, in a sentence."""
    return "picture" if reads == "pictures" else "row"


def times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def own_metrics(config: Mapping[str, Any], allow: Sequence[str]) -> tuple[dict[str, Component], list[str]]:
    """(the user's own metrics that a run names and allow= lets in, what is said of the others). config: of
    its run.json.
    """
    named = config.get("metrics")
    found, left = {}, []
    for name, spec in named.items() if isinstance(named, Mapping) else ():
        code = [str(target) for target in targets(spec)] if isinstance(spec, dict) else []
        if code and all(any(target.startswith(f"{root}.") for root in ("kdx", *allow)) for target in code):
            found[str(name)] = Component(spec)
        else:
            left.append(str(name))
    return found, [
        f"not measured: {together(left)}, as {'it is a metric' if len(left) == 1 else 'they are metrics'} of "
        "a package of your own: allow=[package] lets it in"
    ] if left else []


def _own_value(own: OwnMetric, answers: Answers, rows: Split) -> float:
    try:
        return float(own.measure(answers, rows.known))
    except Exception as error:
        if where := own_error(error):
            raise UserError(f"metrics.{own.metric.name}: your own code fails: {where}") from error
        raise


def measure(
    weights: Weights,
    data: Artifact,
    split: str,
    runtime: Runtime,
    metrics: Mapping[str, Component] | None = None,
) -> dict[str, Any]:
    """{the task's metrics by name, "n", "model", "recall" (by class, where there are some), "metric" and
    "metrics" (how they are shown), "guesses"} of the network on the clean rows of a split, in full precision.
    guesses: the class that it is no better than always naming, else None. metrics: the user's own, by name.
    """
    own = [build_metric(name, described) for name, described in (metrics or {}).items()]
    rows, about = open_split(data, split, runtime), data.json("data.json")
    if rows is None:
        raise UserError(f"the data has no {split} split: set dataset.{split}, or choose another with split=")
    if numbers := network_by_name(weights, about.get("classes", [])):
        rows = replace(rows, truth=torch.tensor(numbers)[rows.known])
    task = build_task(weights.about)
    kept = Condensing(task)
    answers = predict(runtime.place(weights.network()), rows, runtime, batch=kept.batch, kept=kept)
    if not all_finite(answers):
        raise UserError(
            f"the answers of {weights.who} are not finite (NaN or infinite): the weights in "
            f"'{weights.file}' are of no use"
        )
    found = {"model": weights.model, **task.metrics(answers, rows.known), "n": len(rows)}
    found |= {metric.metric.name: _own_value(metric, answers, rows) for metric in own}
    details, guesses = task.details(answers, rows.known, "validation"), None
    if isinstance(task, Classification):
        counts = rows.known.bincount(minlength=len(task.classes)).tolist()
        if chance.guesses(found["accuracy"], found["balanced_accuracy"], counts):
            guesses = task.classes[chance.largest(counts)[0]]
    shown = {
        "metric": task.metric.document(),
        "metrics": [
            metric.document()
            for metric in (*task.shown.values(), *(metric.metric for metric in own))
            if metric.name in found
        ],
    }
    return found | {"recall": details.get("recall", []), **shown, "guesses": guesses}
