"""A composed configuration, as plain values, turned into the objects of a run. Knows the names of
`conf/train.yaml`; imports no torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdx.config import controls_and_metrics, named_options, nodes, pools
from kdx.config.described import component
from kdx.config.destinations import read_publish
from kdx.config.given import given_file, names_given, wrong_given
from kdx.config.moving import read_moving, wrong_moving
from kdx.config.teachers import read_teachers
from kdx.config.untuned import read_untuned, wrong_untuned
from kdx.core import checks, path_checks, snapshot
from kdx.core.errors import UserErrors
from kdx.data.files import Files
from kdx.pipeline.recipes.experiment import Experiment
from kdx.pipeline.recipes.recipe import Recipe, build_recipe
from kdx.pipeline.recipes.written import wrong_text
from kdx.store.component import Component, terms_of
from kdx.store.declared import declared
from kdx.store.moved import current
from kdx.store.places import path_keys
from kdx.store.resolve import allow
from kdx.store.source import Source
from kdx.training.length import SIZES
from kdx.training.runtime import Runtime


@dataclass(frozen=True)
class Order:
    """Everything that a run needs. until: the nodes whose stages may run, None: all. shifts: under which
    the test rows are looked at too. metrics: the user's own, by name.

    sound: nothing was refused; else parts of it are None, and it is good for finding more errors only.
    """

    recipe: Component
    experiment: Experiment
    runtime: Runtime
    store: Path
    until: frozenset[str] | None
    headline: str
    shifts: Sequence[tuple[str, Component]]
    metrics: Mapping[str, Component]
    config: Mapping[str, Any]
    sound: bool


def wire(config: Mapping[str, Any]) -> Order:
    """Raises UserErrors: everything that can be known without torch and without opening the data."""
    order, errors = examine_config(config)
    if errors:
        raise UserErrors(errors)
    return order


def examine_config(config: Mapping[str, Any]) -> tuple[Order, list[str]]:
    """(the order, everything wrong with it that can be known without torch and without opening the data).

    Where there are errors the order is good for looking for more of them only: a part that could not be made
    is None.
    """
    config, errors = current(config), []

    def part(function: Any, *arguments: Any) -> Any:
        return checks.attempt(errors, function, *arguments)

    allow(part(nodes.read_packages, config["allow"]) or [])
    recipe = part(component, "recipe", config["recipe"])
    asks = part(build_recipe, recipe) if recipe else None
    experiment = _experiment(config, part, errors)
    part(nodes.read_prices, config)
    part(read_publish, config)
    errors += _wrong_mixing(experiment, asks)
    shard = (experiment.pseudo_label or {}).get("shard")
    if shard is not None and asks and asks.buys:
        errors.append(
            f"pseudo_label.shard={shard} makes one shard of answers that are known before any training, and "
            "these are bought round by round: leave it out; all shards are made by pseudo_label.shards alone"
        )
    if experiment.given:
        errors += wrong_given(experiment, config, asks)
    errors += wrong_moving(experiment, config, asks)
    errors += wrong_untuned(experiment, config, asks)
    errors += nodes.wrong_aggregate(experiment, config)
    errors += _wrong_compiled(experiment, config["device"])
    errors += wrong_text(experiment, bool(asks and asks.takes_text))
    order = Order(
        recipe=recipe if asks else None,
        experiment=experiment,
        runtime=part(nodes.read_runtime, config["device"]),
        store=part(path_checks.place, "store", config["store"]),
        until=part(nodes.read_stages, config["stages"], config["pseudo_label"].get("shard")),
        headline=part(checks.choice, "headline", config["headline"], ("last", "best")),
        shifts=[
            (name, found)
            for name, spec in config["shift"].items()
            if (found := part(component, f"shift.{name}", spec))
        ],
        metrics=part(controls_and_metrics.read_own_metrics, config) or {},
        config={**config, "pseudo_label": experiment.pseudo_label} if experiment.pseudo_label else config,
        sound=not errors,
    )
    return order, list(dict.fromkeys(errors))


def _experiment(config: Mapping[str, Any], part: Callable[..., Any], errors: list[str]) -> Experiment:
    """part: calls a function, and gives None where it refuses."""
    dataset, student = config["dataset"], dict(config["student"])
    begins = part(nodes.checkpoint_of, "student", student)
    trainings: dict[str, Component | None] = dict.fromkeys(("teacher_pretrain", "student_train"))
    for node in trainings:
        # what is refused has a stand-in, so that the class can tell what else is wrong
        with checks.gather(errors):
            trainings[node] = nodes.read_training(node, config)
    learner = part(named_options.read_network, "student", student)
    given, own = part(given_file, config), names_given(config)
    weights, copies = ("none", "balanced"), ("warn", "drop", "error")
    return Experiment(
        dataset=part(nodes.read_dataset, dataset),
        sizes={name: dataset[name] for name in SIZES},
        class_weights=part(checks.choice, "dataset.class_weights", dataset["class_weights"], weights),
        duplicates=part(checks.choice, "dataset.duplicates", dataset["duplicates"], copies),
        near_copies=part(checks.flag, "dataset.near_copies", dataset.get("near_copies", False)),
        teachers=[] if own else part(read_teachers, config, trainings["teacher_pretrain"], part) or [],
        student=learner,
        student_checkpoint=begins,
        teacher_loss=part(component, "teacher_loss", config["teacher_loss"]),
        loss=part(named_options.read_loss, "loss", config["loss"]),
        loss_option=str(config["choices"].get("loss") or ""),
        assistants=part(named_options.read_assistants, config["assistants"]) or [],
        controls=part(controls_and_metrics.read_controls, config, learner, trainings["student_train"]) or {},
        pseudo_label=part(nodes.read_pseudo_label, config["pseudo_label"]),
        student_train=trainings["student_train"],
        seed=part(nodes.read_seed, config["seed"]),
        select=part(nodes.read_select, config),
        rounds=part(nodes.read_count, "rounds", config["rounds"], nodes.MOST_ROUNDS),
        init=part(nodes.read_init, config),
        round_patience=part(nodes.read_count, "round_patience", config["round_patience"]),
        budget=part(nodes.read_budget, config["budget"]),
        made_up=part(pools.read_made_up, config),
        given=given,
        aggregate=part(nodes.read_aggregate, config),
        moving=part(read_moving, config),
        domains=part(pools.read_domains, config) or [],
        pool=part(pools.read_pool, config),
        untuned=part(read_untuned, config) or (),
        headline="best" if config["headline"] == "best" else "last",  # refused, where it is another
    )


def _wrong_mixing(experiment: Experiment, recipe: Recipe | None) -> list[str]:
    """Where pictures are mixed, and an answer is for one."""
    if not experiment.student_train or "mixup" not in dict(experiment.student_train.spec["augment"]):
        return []
    if recipe and recipe.buys:
        return ["an answer that is bought is for one clean picture, and mixup mixes two: leave mixup out"]
    if experiment.given:
        return ["answers in a file are to one clean picture each, and mixup mixes two: leave mixup out"]
    if experiment.pseudo_label and experiment.pseudo_label["view"] == "clean":
        return [
            "pseudo_label.view=clean answers one clean picture, and mixup mixes two: use "
            "pseudo_label.view=same, or leave mixup out"
        ]
    return []


def _wrong_compiled(experiment: Experiment, device: Mapping[str, Any]) -> list[str]:
    """Where hidden layers are read, and compiling hides them."""
    if not experiment.loss or device.get("compile") is not True:
        return []
    spec, taps = experiment.loss.spec, declared(experiment.loss.target, "taps_with", {})
    reading = [f"loss.{key}={value}" for key, value in taps.items() if spec.get(key) == value]
    reading += ["loss.features"] if terms_of(spec) else []
    return [
        f"{what} reads hidden layers, which device.compile=true hides: set device.compile=false"
        for what in reading
    ]


def with_sources(order: Order, tell: Callable[[str, str], None], *, ahead: bool = False) -> Order:
    """The same, with the data set's files known by their content. They must be there by now. tell: see
    `known`.

    ahead: before any work, where the runs of a command look at the files of a data set once for all of them.
    A run that may work looks for itself, as hours may have passed.
    """
    found = replace(order.experiment, dataset=known(order.experiment.dataset, tell, ahead=ahead))
    if (other := found.pool) and other.source and not other.makes:
        found = replace(found, pool=replace(other, source=known(other.source, tell, ahead=ahead)))
    return replace(order, experiment=found)


def known(
    dataset: Component,
    tell: Callable[[str, str], None] = lambda text, level: None,
    *,
    ahead: bool = False,
) -> Component:
    """A data set known by the content of its files, each under the part that it belongs to, and not by where
    they lie. tell: hears what there is to say of where they lie, with its level. ahead: see `with_sources`.

    A loader whose files are always the same ones, in one order, names them as a list; another by part, each
    with a name of its own.
    """
    key = ("data", os.getcwd(), json.dumps(dataset.spec, sort_keys=True))
    found, notes = (
        snapshot.once(key, lambda: _known(dataset, once=True)) if ahead else _known(dataset, once=False)
    )
    for text, level in notes:
        tell(text, level)
    return found


def _known(dataset: Component, *, once: bool) -> tuple[Component, Sequence[tuple[str, str]]]:
    """(see `known`, what there is to say of where the files lie, with its level). once: see Source."""
    files = dataset.build().files()
    notes = files.notes if isinstance(files, Files) else ()
    if not files:
        return dataset, notes
    parts = (
        {part: Source(named=named, once=once) for part, named in files.items()}
        if isinstance(files, Mapping)
        else {"files": Source(*files, once=once)}
    )
    return Component(dataset.spec, parts, places=path_keys(dataset.spec)), notes
