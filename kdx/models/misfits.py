"""Weights that do not fit a network, or are none: what is wrong with them, in the file's own names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kdx.core.errors import UserError
from kdx.models.fitting import NORMALISE, Fit

DIVIDING = {
    "std": "by which pictures are divided",
    "columns.std": "by which the columns of a table are divided",
    "units.scale": "by which answers are multiplied and errors divided",
}
"""Buffers of `NORMALISE` that have no meaning but above 0, and what they are for."""
FINE_TUNE = {
    "teacher": "set teacher_pretrain.epochs=5, say, to train it on with a new last layer",
    None: "kdx train can fine-tune it to others",
}


def listed_weights(fit: Fit, names: frozenset[str]) -> str:
    return ", ".join(
        f"{fit.original.get(name, fit.prefix + name)}{list(fit.weights[name].shape) if name in fit.weights else ' is missing'}"  # noqa: E501
        for name in sorted(names, reverse=True)[:2]
    )


def check_weights_of_config(path: Path, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Whether weights from a folder of Hugging Face's form have the shapes that its config.json asks for.
    own: those of the network that was built of it, by the same names. Raises UserError."""
    wrong = [name for name, value in weights.items() if value.shape != own[name].shape]
    if wrong:
        raise UserError(
            f"'{path}' does not fit its config.json: {wrong[0]} is {tuple(weights[wrong[0]].shape)}, and "
            f"must be {tuple(own[wrong[0]].shape)}: take both from one model"
        )


def check_weights_finite(where: str, weights: Mapping[str, Tensor]) -> None:
    """Whether weights that others made are numbers. where: the file, or the network that came with them;
    weights: by their names there. Raises UserError with the first of them that holds NaN or infinity."""
    bad = [name for name, value in weights.items() if not bool(value.isfinite().all())]
    if bad:
        raise UserError(
            f"{where} holds numbers that are not finite (NaN or infinite) in {len(bad)} of {len(weights)} "
            f"tensors, the first of them {bad[0]}: take another copy of the model"
        )


def check_weight_names(
    fit: Fit, head: frozenset[str], bare: Mapping[str, Tensor], path: Path, role: str | None
) -> None:
    if not fit.weights:
        there = ", ".join([name for name in fit.original.values() if name not in NORMALISE][:2])
        raise UserError(
            f"the checkpoint '{path}' is of another model: of its names ({there}, ...) none is one of this "
            f"model ({', '.join(list(bare)[:2])}, ...)"
        )
    if fit.missing and fit.missing <= head:
        raise UserError(
            f"the checkpoint '{path}' lacks the last layer "
            f"({', '.join(fit.prefix + name for name in sorted(fit.missing, reverse=True))}): "
            f"{FINE_TUNE.get(role, FINE_TUNE[None])}"
        )
    if fit.missing or fit.extra:
        lacks = [fit.prefix + name for name in sorted(fit.missing)[:3]]
        besides = [fit.original[name] for name in sorted(fit.extra)[:3]]
        raise UserError(
            f"the checkpoint '{path}' is of another model: it lacks {lacks or 'nothing'} and has "
            f"{besides or 'nothing'} besides"
        )


def check_weight_shapes(
    fit: Fit, head: frozenset[str], bare: Mapping[str, Tensor], path: Path, role: str | None
) -> None:
    wrong = [name for name in bare if name in fit.weights and fit.weights[name].shape != bare[name].shape]
    if not wrong:
        return
    first, name = (
        next((n for n, value in bare.items() if n.endswith("weight") and value.dim() > 1), ""),
        wrong[0],
    )
    there, here = (list(values[name].shape) for values in (fit.weights, bare))
    if head.issuperset(wrong) and there[1:] == here[1:] and first not in wrong:
        why = (
            f"it was trained for {there[0]} classes and the data set has {here[0]}: "
            f"{FINE_TUNE.get(role, FINE_TUNE[None])}, or choose the data that it was made for"
        )
    else:
        why = _cause(name == first, there, here, role)
    raise UserError(
        f"the checkpoint '{path}' does not fit: {fit.original[name]} is {there} there and {here} here: {why}"
    )


def _cause(first: bool, there: list[int], here: list[int], role: str | None) -> str:
    """Why two shapes differ. first: of the layer that meets the picture."""
    if len(there) != len(here):
        return "another kind of layer, so another model"
    if len(here) == 4 and first and there[0] == here[0] and there[1] != here[1]:
        return f"it takes pictures of {there[1]} channels and the data set's have {here[1]}"
    if len(here) == 4 and first and there[2:] != here[2:]:
        sizes = "larger" if there[2] > here[2] else "smaller"
        keeps = (
            (
                f", or {role or 'model'}.weights=DEFAULT, which keeps torchvision's stem "
                "and enlarges the pictures"
            )
            if sizes == "larger"
            else ""
        )
        return (
            f"its first layer is for {sizes} pictures, as kdx fits that layer to the picture: "
            f"set dataset.image_size to the size that it learned on, where the data set has it{keeps}"
        )
    if len(here) == 3 and there[::2] == here[::2]:
        return (
            "its positions are of pictures of another size, or of other patches: set dataset.image_size to "
            "the size that it learned on, or the model's patch"
        )
    if len(here) == 2 and there[0] == here[0]:
        return (
            "it learned on pictures of another size (set dataset.image_size, where the data set has it), or "
            "has other widths"
        )
    return "other widths, or another model"


def check_weight_numbers(fit: Fit, bare: Mapping[str, Tensor], path: Path) -> None:
    """Weights in half or double precision are cast;
    integers and numbers that are not finite are no weights.
    """
    for name, value in fit.weights.items():
        if (
            value.layout is not torch.strided
            or value.is_meta
            or (bare[name].is_floating_point() and not value.is_floating_point())
        ):
            kind = (
                "without numbers"
                if value.is_meta
                else str(value.dtype if value.layout is torch.strided else value.layout).removeprefix(
                    "torch."
                )
            )
            raise UserError(
                f"the checkpoint '{path}' is quantised, packed or empty: {fit.original[name]} is {kind}; "
                "give the floating-point weights that it was made from"
            )
    _check_finite(
        {fit.original[name]: (value, bare[name].dtype) for name, value in fit.weights.items()}, path
    )
    if bad := [
        fit.original[name]
        for name, value in fit.weights.items()
        if name.endswith("running_var") and (value.to(bare[name].dtype) < 0).any()
    ]:
        raise UserError(
            f"the checkpoint '{path}' is damaged: {bad[0]} holds variances below "
            f"zero{f', and so do {len(bad) - 1} more' if len(bad) > 1 else ''}; give another copy of it, or "
            "an earlier checkpoint"
        )


def _check_finite(values: Mapping[str, tuple[Tensor, torch.dtype]], path: Path) -> None:
    """name in the file -> (tensor, the precision that it is cast to)"""
    bad = [name for name, (value, dtype) in values.items() if not value.to(dtype).isfinite().all()]
    if not bad:
        return
    first, dtype = values[bad[0]]
    where = f"in {len(bad)} of {len(values)} tensors, the first of them {bad[0]}"
    if first.dtype == torch.float64 and first.isfinite().all():
        raise UserError(
            f"the checkpoint '{path}' holds numbers that are too large for "
            f"{str(dtype).removeprefix('torch.')} {where}: its training went wrong; "
            "give an earlier checkpoint"
        )
    raise UserError(
        f"the checkpoint '{path}' holds numbers that are not finite (NaN or infinite) {where}: its training "
        "went wrong; give an earlier checkpoint"
    )


def normalisation_of(given: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The mean and deviation that rows are normalised by, and the units of the answers, of a file of kdx's
    own.
    """
    taken = {name: value for name, value in given.items() if name in own}
    for name, value in taken.items():
        if value.shape != own[name].shape:
            raise UserError(
                f"the checkpoint '{path}' does not fit: {name} is {list(value.shape)} there and "
                f"{list(own[name].shape)} here: it takes other channels"
            )
    _check_finite({name: (value, own[name].dtype) for name, value in taken.items()}, path)
    cast = {name: value.to(own[name].dtype) for name, value in taken.items()}
    for name, what in DIVIDING.items():
        if name in cast and not (cast[name] > 0).all():
            raise UserError(
                f"the checkpoint '{path}' is damaged: its {name}, {what}, must be above 0 throughout; it is "
                f"{cast[name].flatten().tolist()[:4]}"
            )
    return cast
