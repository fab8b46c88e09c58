"""Weights in a file that no model.json describes, put to a data set: how many classes they know, and what
pictures they take, as far as their shapes tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from kdx.config.tried_data import describe_data
from kdx.config.wire import Order
from kdx.core.class_names import learned_classes
from kdx.core.errors import UserErrors
from kdx.models.checkpoint import read_weights_file
from kdx.models.estimator import is_estimator
from kdx.models.fitting import NET, Fit, fit_names, last_layer
from kdx.pipeline.stages.files import new_network
from kdx.runs.other_data import misfits, times
from kdx.runs.stored import Weights
from kdx.store.component import Component
from kdx.store.moved import kind_of_old

_USUAL = (8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256)
"""Sides of pictures that are tried, where those of the data do not fit."""


def as_learned(weights: Weights, order: Order, names: Mapping[str, str] | None) -> tuple[Weights, list[str]]:
    """(the weights with the classes and the shape of pictures that they were made for, what is said of them).
    weights: built for the data of `order`. names: of `classes_map=`, None without it. Raises UserErrors where
    they cannot be put to these data."""
    found = replace(weights, about=_about_learned(weights, names is None), names=names)
    if names is None and found.about == weights.about:
        return weights, []
    classes, named = found.about.get("classes") or [], learned_classes(weights.file) is not None
    numbers = (
        f"no model.json beside '{weights.file}' names its classes: in classes_map= they are 0 to "
        f"{len(classes) - 1}, by their places in its last layer"
    )
    description = describe_data(order.experiment, wrong := [])
    name, length = order.config["choices"]["dataset"], order.config["dataset"].get("length")
    errors = wrong if description is None else misfits([found], name, description, length)
    if errors:
        raise UserErrors(errors if named or not classes else [*errors, numbers])
    notes = [] if named or names is None else [numbers]
    shape = found.about.get("shape")
    if names is not None and kind_of_old(found.about)["reads"] == "pictures" and _takes_any_size(found):
        notes.append(
            f"its weights do not tell the size of the pictures that it learned on: these are {times(shape)}; "
            "dataset.image_size=, where the data set has it, sets another"
        )
    return found, notes


def _about_learned(weights: Weights, by_place: bool) -> Mapping[str, Any]:
    """The model.json of the network that these weights are of; that of the data where they do not tell.
    by_place: whether classes without names are those of the data, where they are as many."""
    about = {**weights.about, **kind_of_old(weights.about)}
    model = Component(about["component"])
    if is_estimator(model) or not about.get("classes") or set(about["task"]) - {"_target_", "classes"}:
        return weights.about
    fit, bare = _fit(weights, about)
    head = [fit.weights[name] for name in last_layer(bare) if name in fit.weights]
    counts = {len(value) for value in head if value.dim()}
    if len(counts) != 1:
        return weights.about
    found = _of_classes(about, _classes(weights, about["classes"] if by_place else (), counts.pop()))
    if about["reads"] != "pictures":
        return found if found != about else weights.about
    first = next((name for name, value in bare.items() if value.dim() == 4 and name in fit.weights), None)
    channels = fit.weights[first].shape[1] if first else about["shape"][0]
    fitting = (one for shape in _shapes(about["shape"], channels) if _fits(weights, one := _of(found, shape)))
    found = next(fitting, found)
    return found if found != about else weights.about


def _classes(weights: Weights, ours: Sequence[Any], count: int) -> list[str]:
    """By name where a model.json has them, else ours where they are as many, else numbers."""
    named = learned_classes(weights.file)
    if named is not None and len(named) == count:
        return named
    return list(ours) if len(ours) == count else [str(number) for number in range(count)]


def _shapes(own: Sequence[int], channels: int) -> Iterator[list[int]]:
    """(C, H, W): the pictures of the data first."""
    yield [channels, *own[1:]]
    yield from ([channels, side, side] for side in _USUAL if [side, side] != list(own[1:]))


def _of_classes(about: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    return {**about, "classes": list(classes), "task": {**about["task"], "classes": list(classes)}}


def _of(about: Mapping[str, Any], shape: Sequence[int]) -> dict[str, Any]:
    """For pictures of that shape. Where it has other channels each is normalised by the mean of those of the
    data, unless the file has its own."""
    example = {name: [list(shape), one[1]] for name, one in about["example"].items()}
    found = {**about, "shape": list(shape), "example": example}
    if shape[0] == about["shape"][0]:
        return found
    adapter = about["adapter"]
    levels = {
        key: [sum(adapter[key]) / len(adapter[key])] * shape[0] for key in ("mean", "std") if key in adapter
    }
    return {**found, "adapter": {**adapter, **levels}, **{key: levels[key] for key in levels if key in about}}


def _fit(weights: Weights, about: Mapping[str, Any]) -> tuple[Fit, dict[str, Tensor]]:
    """(how the names of the file meet those of the network, that network's own tensors)"""
    network = new_network(Component(about["component"]), about, read_weights=False)
    own = network.state_dict()
    inner = NET if any(name.startswith(NET) for name in own) else ""
    bare = {name.removeprefix(inner): value for name, value in own.items() if name.startswith(inner)}
    content = read_weights_file(weights.file, key=weights.key, like=bare)
    return fit_names(content, bare, weights.file, None, []), bare


def _fits(weights: Weights, about: Mapping[str, Any]) -> bool:
    fit, bare = _fit(weights, about)
    return not fit.misfits(bare)


def _takes_any_size(weights: Weights) -> bool:
    channels, *sides = weights.about["shape"]
    return _fits(weights, _of(weights.about, [channels, *(2 * side for side in sides)]))
