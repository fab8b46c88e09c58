"""Weights from a file into a network: checked against its shapes, never unpickled."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kdx import shortage
from kdx.faults import Fault

NESTED = ("state_dict", "model", "model_state_dict", "net")
"""Where other tools put the weights inside a checkpoint."""
PREFIXES = ("module.", "_orig_mod.")
"""What data-parallel and compiled modules put before each name."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """name -> tensor from .safetensors, or from a file of torch.save with nothing in it but tensors and plain values.

    Raises Fault, naming the file, where it is missing, damaged, or holds anything else (which would have to be unpickled).
    """
    path = Path(path)
    if not path.is_file():
        raise Fault(f"the checkpoint '{path}' does not exist")
    try:
        with warnings.catch_warnings():  # torch warns of a foreign pickle, and then refuses it: that is told below
            warnings.simplefilter("ignore")
            found = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise Fault(f"the checkpoint '{path}' is damaged, or holds more than tensors and plain values and is not unpickled: "
                    "save the state dict alone (torch.save(model.state_dict(), path))") from error  # fmt: skip
    except Exception as error:  # bytes that are no checkpoint make the readers fail in any way: IndexError, TypeError, struct.error
        if shortage.kind(error):
            raise
        raise Fault(f"the checkpoint '{path}' is damaged: {(str(error).splitlines() or ['it is empty or cut off'])[0]}") from error
    for key in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise Fault(f"the checkpoint '{path}' holds no state dict")
    return {_plain(name): value for name, value in found.items()}


def _plain(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def load_weights(network: nn.Module, path: Path) -> None:
    """Loads a checkpoint of the network as kdx builds it, or of the bare net inside it; every name and shape must agree (Fault)."""
    weights = read_weights(path)
    own = network.state_dict()
    if not any(name.startswith("net.") for name in weights):
        weights = {f"net.{name}": value for name, value in weights.items()}
    weights = {**{n: v for n, v in own.items() if not n.startswith("net.")}, **weights}
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or extra:
        raise Fault(f"the checkpoint '{path}' is of another model: it lacks {missing[:3] or 'nothing'} and has {extra[:3] or 'nothing'} besides")
    wrong = [n for n in own if own[n].shape != weights[n].shape]
    if wrong:
        name = wrong[-1]
        raise Fault(f"the checkpoint '{path}' does not fit the dataset or the model: {name} is {tuple(weights[name].shape)} there and "
                    f"{tuple(own[name].shape)} here (another number of classes, channels or widths)")  # fmt: skip
    network.load_state_dict(weights)
