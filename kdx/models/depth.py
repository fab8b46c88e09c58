"""The layers of any network by depth, so that those near the input can learn more slowly."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

_WRAPPERS = ("net", "network")


def layers_by_depth(network: nn.Module) -> list[Sequence[nn.Parameter]]:
    """Its parameters that are trained, layer by layer in the order in which it holds them, from the input to
    the last layer. A layer is what stands alone by name, or a block of a list or sequence (`layer1.0`,
    `features.3`); vectors alone, such as a norm or a token, belong to the layer before them, the first ones
    to that behind them.
    """
    layers: dict[str, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            layers.setdefault(_layer_of(name), []).append(parameter)
    found: list[list[nn.Parameter]] = []
    waiting: list[nn.Parameter] = []
    for parameters in layers.values():
        if any(parameter.dim() > 1 for parameter in parameters):
            found.append([*waiting, *parameters])
            waiting = []
        elif found:
            found[-1] += parameters
        else:
            waiting += parameters
    return found if not waiting else [*found, waiting]


def _layer_of(name: str) -> str:
    """ "net.layer1.0.conv1.weight" -> "layer1.0", "fc.weight" -> "fc" """
    parts = name.split(".")[:-1]
    while parts and parts[0] in _WRAPPERS:
        parts = parts[1:]
    for place, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[: place + 1])
    return parts[0] if parts else name
