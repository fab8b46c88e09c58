"""Weights from a file into a network: found by name, checked against its shapes, never unpickled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from kdx.core.errors import UserError
from kdx.models import checkpoint, sets
from kdx.models.adapt import Around
from kdx.models.estimator import estimator_in
from kdx.models.fitting import NET, NORMALISE, WeightsNote, fit_names, last_layer, own_last_layers
from kdx.models.misfits import (
    check_weight_names,
    check_weight_numbers,
    check_weight_shapes,
    listed_weights,
    normalisation_of,
)

NEW_HEAD = "the network begins with a new one"


def left_out_head(notes: Sequence[WeightsNote]) -> bool:
    """Whether a last layer of another size was left out. notes: of `load_weights`."""
    return any(text.endswith(NEW_HEAD) for text, _ in notes)


def read_weights(path: Path) -> dict[str, Tensor]:
    """name -> tensor, as kdx.models.checkpoint.read_weights_file finds them,
    without what wrappers put before every name.
    """
    weights = {
        sets.WRAPPERS.sub("", name): value
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
    if estimator_in(network) is not None:
        return _load_fitted(network, path)
    own, inner = network.state_dict(), NET if isinstance(network, Around) else ""
    bare = {name.removeprefix(inner): value for name, value in own.items() if name.startswith(inner)}
    content = checkpoint.read_weights_file(path, key=key, role=role, like=bare)
    notes: list[WeightsNote] = [(text, "warning") for text in content.notes]
    of_names: list[WeightsNote] = []
    fit = fit_names(content, bare, path, role, of_names)
    if content.weights.keys() != own.keys():  # else it is this network as kdx saves it
        notes += of_names
    head = last_layer(bare)
    misfits = fit.misfits(bare)
    if new_head and misfits and misfits <= head and bare.keys() - head:
        notes.append(
            (
                (
                    f"the last layer of the checkpoint '{path}' was left out "
                    f"({listed_weights(fit, misfits)}): {NEW_HEAD}"
                ),
                "warning",
            )
        )
        fit = fit.without(head, own_last_layers(fit, head, bare, content.weights))
    check_weight_names(fit, head, bare, path, role)
    check_weight_shapes(fit, head, bare, path, role)
    check_weight_numbers(fit, bare, path)
    own |= {inner + name: value.to(bare[name].dtype) for name, value in fit.weights.items()}
    own |= normalisation_of(fit.normalise, own, path) if inner else {}
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


def _load_fitted(network: nn.Module, path: Path) -> list[WeightsNote]:
    """What a teacher that was fitted at once has learned: all that its file holds under its name, of any
    shape, as kdx wrote it."""
    found = checkpoint.read_weights_file(path).weights
    own = network.state_dict()
    normalise = {name: value for name, value in found.items() if name in NORMALISE}
    try:
        network.load_state_dict({**found, **normalisation_of(normalise, own, path)})
    except RuntimeError as error:
        raise UserError(
            f"the checkpoint '{path}' is of another model than "
            f"{type(estimator_in(network)).__name__}, or of other rows: give one that kdx made of it"
        ) from error
    return []
