"""Weights from a file into a network: found by name, checked against its shapes, never unpickled."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from kdx.core.errors import UserError
from kdx.models import checkpoint
from kdx.models.adapt import Adapted
from kdx.models.checkpoint import Content

COUNTED = re.compile(
    r"(^|[._])(epochs?|steps?|iterations?|iter|acc|acc1|accuracy|loss|lr|decay|num_updates|n_averaged|total_ops|total_params)$"
)
"""Names of single numbers that training and counting tools put beside weights."""
WeightsNote = tuple[str, str]
"""What to tell, and how: info or warning."""
NET = "net."
"""Where kdx keeps the bare network inside the one that takes pixels."""
NORMALISE = ("mean", "std")
"""What that one normalises pictures by, in its state dict;
another file has none, and the data set's is used.
"""
FINE_TUNE = {
    "teacher": "set teacher_pretrain.epochs=5, say, to train it on with a new last layer",
    None: "kdx train can fine-tune it to others",
}


def read_weights(path: Path) -> dict[str, Tensor]:
    """name -> tensor, as kdx.models.checkpoint.read_weights_file finds them,
    without what wrappers put before every name.
    """
    weights = {
        checkpoint.WRAPPERS.sub("", name): value
        for name, value in checkpoint.read_weights_file(path).weights.items()
    }
    return {name.removeprefix("module."): value for name, value in weights.items()}


def load_weights(
    network: nn.Module, path: Path, *, key: str | None = None, role: str | None = None, new_head: bool = False
) -> list[WeightsNote]:
    """Loads a checkpoint of the network as kdx builds it, or of the bare net inside it; returns what to tell
    of it.

    A prefix that the names have in common is dropped where the rest then fits. new_head: a last layer of
    another size is left out, as the network is trained further. Every other name and shape must agree. key,
    role: see kdx.models.checkpoint.read_weights_file. Raises UserError, in the file's own names.
    """
    own, inner = network.state_dict(), NET if isinstance(network, Adapted) else ""
    bare = {name.removeprefix(inner): value for name, value in own.items() if name.startswith(inner)}
    content = checkpoint.read_weights_file(path, key=key, role=role, like=bare)
    notes: list[WeightsNote] = [(text, "warning") for text in content.notes]
    fit = _fit(content, bare, path, role, notes)
    head = _head(bare)
    misfits = fit.misfits(bare)
    if new_head and misfits and misfits <= head and bare.keys() - head:
        notes.append(
            (
                (
                    f"the last layer of the checkpoint '{path}' was left out ({_listed(fit, misfits)}): the "
                    "network begins with a new one"
                ),
                "warning",
            )
        )
        fit = fit.without(head, _of_head(fit, head, bare, content.weights))
    _check_names(fit, head, bare, path, role)
    _check_shapes(fit, head, bare, path, role)
    _check_numbers(fit, bare, path)
    own |= {inner + name: value.to(bare[name].dtype) for name, value in fit.weights.items()}
    own |= _normalise(fit, own, path) if inner else {}
    network.load_state_dict(own)
    if inner and getattr(network.net, "halves_less", False) and not fit.normalise:
        notes.append(
            (
                f"the checkpoint '{path}' fits, but for small pictures kdx leaves out early strides "
                "or pooling of this network, which no shape shows: where it learned with "
                f"torchvision's own, train it on, or set {role or 'model'}.weights=DEFAULT, which "
                "keeps them and enlarges the pictures",
                "warning",
            )
        )
    return notes


@dataclass(frozen=True)
class _Fit:
    """How a file's names meet those of a network. weights: by the network's names; original: what the file
    calls them; prefix: what was dropped.

    normalise: the mean and deviation that pictures are normalised by, of a file of kdx's own.
    """

    prefix: str
    weights: Mapping[str, Tensor]
    original: Mapping[str, str]
    missing: frozenset[str]
    extra: frozenset[str]
    normalise: Mapping[str, Tensor]

    def misfits(self, bare: Mapping[str, Tensor]) -> frozenset[str]:
        """Names that are missing, or whose shape is another."""
        return self.missing | {
            name for name, value in self.weights.items() if value.shape != bare[name].shape
        }

    def without(self, names: frozenset[str], instead: frozenset[str]) -> _Fit:
        """The same where the network keeps its own tensors for these names. instead: what the file has in
        their place, which is not looked at.
        """
        kept = {name: value for name, value in self.weights.items() if name not in names}
        return replace(self, weights=kept, missing=self.missing - names, extra=self.extra - instead)


def _fit(
    content: Content, bare: Mapping[str, Tensor], path: Path, role: str | None, notes: list[WeightsNote]
) -> _Fit:
    """The prefix under which most names of the network are found; the names of one prefix are one set of
    weights.
    """
    weights = content.weights
    clean = {checkpoint.WRAPPERS.sub("", name): name for name in weights}
    alike = _alike(clean, bare)
    prefix, others = alike[0] if alike else "", []
    if len(alike) > 1:
        prefix, others = _choose(alike, clean, content, path, role, notes)
    original = {name[len(prefix) :]: there for name, there in clean.items() if name.startswith(prefix)}
    original = {
        name: there
        for name, there in original.items()
        if name in bare or not (prefix + name).startswith(tuple(others))
    }
    outer = prefix.removesuffix(NET)
    own = (
        {name: clean[outer + name] for name in NORMALISE if outer + name in clean}
        if prefix.endswith(NET)
        else {}
    )
    dropped = outer if own else prefix  # else the file is of a network in kdx
    left = [name for name in original if name not in bare and _counts(name, weights[original[name]])]
    besides = (
        set(weights).difference(original.values(), own.values()) if dropped and len(alike) == 1 else set()
    )
    if besides or left:
        besides |= {original[name] for name in left}
    some = f"{', '.join(sorted(besides)[:2])}{', ...' if len(besides) > 2 else ''}"
    if dropped:
        more = (
            f"; what does not begin with it was left out: {some}"
            if besides and not left
            else f"; left out: {some}"
            if besides
            else ""
        )
        notes.append(
            (f"the names of the checkpoint '{path}' begin with '{dropped}', which was dropped{more}", "info")
        )
    elif besides:
        notes.append((f"of the checkpoint '{path}' was left out what is no weight: {some}", "info"))
    kept = {name: weights[there] for name, there in original.items() if name in bare}
    # which old versions of torch did not count
    missing = {name for name in bare.keys() - kept.keys() if not name.endswith("num_batches_tracked")}
    extra = original.keys() - bare.keys() - set(left)
    return _Fit(
        prefix,
        kept,
        original,
        frozenset(missing),
        frozenset(extra),
        {name: weights[there] for name, there in own.items()},
    )


def _choose(
    alike: list[str],
    clean: Mapping[str, str],
    content: Content,
    path: Path,
    role: str | None,
    notes: list[WeightsNote],
) -> tuple[str, list[str]]:
    """(the prefix of several that is meant, those of the sets of names that are not). Raises UserError where
    nobody can tell.
    """
    # with what it normalises by
    outer = [name.removesuffix(NET) if name.removesuffix(NET) + "mean" in clean else name for name in alike]
    keys = [name.removesuffix(".") for name in outer]
    taken = checkpoint.choose_weights(keys, role)
    if taken is None:
        raise UserError(
            f"the checkpoint '{path}' holds several sets of names that fit "
            f"({', '.join(f'{name}*' for name in alike[:4])}): choose with "
            f"{checkpoint.setting(role)}={content.key(keys[0])}"
        )
    prefix = alike[keys.index(taken)]
    notes.append(
        (checkpoint.also(content.key(taken), [content.key(name) for name in keys], path, role), "warning")
    )
    return prefix, [name for name in outer if name and not prefix.startswith(name)]


def _alike(names: Collection[str], bare: Mapping[str, Tensor]) -> list[str]:
    """The prefixes under which about as many of the network's names are found as under any, those of the same
    names once; the fullest first.
    """
    found = checkpoint.prefixes(names, bare)
    most = max(found.values(), default=0)
    if 2 * most <= len(bare):
        return sorted(found, key=lambda prefix: (-found[prefix], prefix.count("."), prefix))[:1]
    alike: list[str] = []
    taken: set[str] = set()
    for prefix in sorted(
        (prefix for prefix, count in found.items() if 2 * count > most),
        key=lambda p: (-found[p], p.count("."), p),
    ):
        these = {prefix + name for name in bare} & set(names)
        if 2 * len(these - taken) > most:
            alike.append(prefix)
            taken |= these
    return alike


def _counts(name: str, value: Tensor) -> bool:
    """Whether a tensor that the network has no name for is no weight, but a number about the training."""
    return (value.dim() == 0 and not value.is_floating_point() and not value.is_complex()) or (
        value.numel() == 1 and bool(COUNTED.search(name))
    )


def _head(bare: Mapping[str, Tensor]) -> frozenset[str]:
    """Names of the last layer."""
    last = next((name for name in reversed(bare) if name.endswith("weight") and bare[name].dim() > 1), "")
    layer = last.removesuffix("weight")
    return frozenset({last, f"{layer}bias"} & bare.keys())


def _of_head(
    fit: _Fit, head: frozenset[str], bare: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> frozenset[str]:
    """Names besides the network's that are the file's own last layers: inside the network's, or of a module
    that the rest of the network has no like of (but for its number: stage5 beside stage4 is a deeper
    network), and made of matrices and vectors."""

    def module(name: str) -> str:
        return re.sub(r"\d+", "", name.partition(".")[0])

    inside = tuple(f"{name.rpartition('.')[0]}." for name in head if "." in name)
    body = {module(name) for name in bare.keys() - head}
    return frozenset(
        name
        for name in fit.extra
        if (bool(inside) and name.startswith(inside))
        or (module(name) not in body and weights[fit.original[name]].dim() <= 2 and "running_" not in name)
    )


def _listed(fit: _Fit, names: frozenset[str]) -> str:
    return ", ".join(
        f"{fit.original.get(name, fit.prefix + name)}{list(fit.weights[name].shape) if name in fit.weights else ' is missing'}"  # noqa: E501
        for name in sorted(names, reverse=True)[:2]
    )


def _check_names(
    fit: _Fit, head: frozenset[str], bare: Mapping[str, Tensor], path: Path, role: str | None
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


def _check_shapes(
    fit: _Fit, head: frozenset[str], bare: Mapping[str, Tensor], path: Path, role: str | None
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


def _check_numbers(fit: _Fit, bare: Mapping[str, Tensor], path: Path) -> None:
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


def _normalise(fit: _Fit, own: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The mean and deviation that pictures are normalised by, of a file of kdx's own."""
    for name, value in fit.normalise.items():
        if value.shape != own[name].shape:
            raise UserError(
                f"the checkpoint '{path}' does not fit: {name} is {list(value.shape)} there and "
                f"{list(own[name].shape)} here: it takes other channels"
            )
    _check_finite({name: (value, own[name].dtype) for name, value in fit.normalise.items()}, path)
    cast = {name: value.to(own[name].dtype) for name, value in fit.normalise.items()}
    if "std" in cast and not (cast["std"] > 0).all():
        raise UserError(
            f"the checkpoint '{path}' is damaged: its std, by which pictures are divided, must be above 0 "
            f"in every channel; it is {cast['std'].flatten().tolist()[:4]}"
        )
    return cast
