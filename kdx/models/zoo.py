"""Any other classifier of torchvision, by name: as its library builds it, of pictures made large enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torchvision import models as zoo

from kdx.core.checks import shown
from kdx.core.errors import UserError, nearest
from kdx.models import pretrained
from kdx.models.adapt import Fitted, InputFormat
from kdx.models.layers import check_rates, check_size, enlarged
from kdx.models.small import take_channels
from kdx.models.torchvision import with_pretrained

_LEAST = {"inception_v3": 75}
"""Pixels a side that smaller pictures are enlarged to, where it is not 64."""
_ONE_SIZE = ("vit_", "maxvit_", "swin_")
"""Beginnings of the names of those that are made for one picture size."""
_TWO_HEADS = ("googlenet", "inception_v3")
"""Those with a second head for training, which is left out; their weights have it."""


def torchvision_by_name(
    *,
    shape: tuple[int, int, int],
    classes: int,
    name: str,
    weights: str | None,
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module | Fitted:
    """The classifier that torchvision calls `name`, such as regnet_y_400mf.

    weights: null, DEFAULT, or a name of torchvision's such as IMAGENET1K_V1. From scratch a network that is
    made for one picture size gets its own, any other the pictures as they are or enlarged to 64 pixels; with
    weights it gets the size, three channels and the normalisation of the weights.
    """
    known = zoo.list_models(module=zoo)
    if name not in known:
        raise UserError(f"torchvision has no model '{shown(name, bare=True)}'{nearest(str(name), known)}")
    options = zoo.get_model_weights(name)
    own = options[pretrained.named(name, list(options.__members__), weights or "DEFAULT")]
    if weights is not None and name in _TWO_HEADS:
        raise UserError(f"the weights of {name} are of a network with two heads: set weights=null")
    depth = check_rates(name, dropout=dropout, stochastic_depth=stochastic_depth)
    if weights is None:
        check_size(name, shape, 8)
        net = _create(name, classes, dropout, depth, stochastic_depth)
        _take_channels(net, shape[0])
        side = own.transforms().crop_size[0]
        size = (side, side) if name.startswith(_ONE_SIZE) else enlarged(shape, _LEAST.get(name, 64))
        return Fitted(net, InputFormat(channels=shape[0], size=size, mean=None, std=None))
    before = len(own.meta["categories"])
    net = _create(name, before, dropout, depth, stochastic_depth)
    return with_pretrained(net, own, classes, _last_layer(net, before))


def _create(name: str, classes: int, dropout: float, depth: float, asked: float | str) -> nn.Module:
    """With those rates that the network knows. Raises UserError where one that it does not is not 0."""
    rates: dict[str, float] = {"dropout": dropout, "stochastic_depth_prob": depth}
    heads = {"aux_logits": False, "init_weights": True} if name in _TWO_HEADS else {}
    more: Mapping[str, Any] = {"num_classes": classes} | heads
    for kept in (("dropout", "stochastic_depth_prob"), ("dropout",), ("stochastic_depth_prob",), ()):
        given = {key: rates[key] for key in kept}
        left = {key for key in rates.keys() - given.keys() if rates[key]}
        if asked == "auto":
            left -= {"stochastic_depth_prob"}
        if left:
            continue
        try:
            return zoo.get_model(name, **given, **more)
        except TypeError:
            continue
    raise UserError(f"torchvision's {name} does not take these rates: set dropout=0 and stochastic_depth=0")


def _take_channels(net: nn.Module, channels: int) -> None:
    """Of the first convolution."""
    first = next(path for path, part in net.named_modules() if isinstance(part, nn.Conv2d))
    parent, _, last = first.rpartition(".")
    take_channels(net.get_submodule(parent), last, channels)


def _last_layer(net: nn.Module, classes: int) -> tuple[nn.Module, str]:
    """Of a network with so many classes: its parent and its name there."""
    path = [
        path
        for path, part in net.named_modules()
        if (isinstance(part, nn.Linear) and part.out_features == classes)
        or (isinstance(part, nn.Conv2d) and part.out_channels == classes and part.kernel_size == (1, 1))
    ][-1]
    parent, _, last = path.rpartition(".")
    return net.get_submodule(parent), last
