"""Any network of the timm library, by name. timm is an extra: `pip install kdx[timm]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from kdx.core import shortage
from kdx.core.checks import flag
from kdx.core.errors import UserError, nearest
from kdx.models import pretrained
from kdx.models.adapt import Fitted, InputFormat
from kdx.models.distillation_token import token_heads
from kdx.models.layers import check_rates, check_size, enlarged

_LEAST = 64
"""Pixels a side that smaller pictures are enlarged to: most of these networks halve their map five times."""


def by_name(
    *,
    shape: tuple[int, int, int],
    classes: int,
    name: str,
    weights: str | None,
    dropout: float,
    stochastic_depth: float | str,
    distillation_token: bool = False,  # an option file of before has none
) -> Fitted:
    """The network that timm calls `name`, such as resnet18d.

    weights: null, DEFAULT, or a tag of timm's such as a1_in1k. From scratch a network that has one picture
    size gets its own, any other the pictures as they are or enlarged to 64 pixels; with weights it gets the
    size, the channels and the normalisation of the weights. distillation_token: whether it must have one.
    """
    flag(f"timm '{name}': distillation_token", distillation_token)
    try:
        import timm
    except ImportError as error:
        raise UserError(
            f"the model timm '{name}' needs the package timm, which is not installed: pip install timm"
        ) from error

    depth = check_rates(f"timm '{name}'", dropout=dropout, stochastic_depth=stochastic_depth)
    if not timm.is_model(name):
        raise UserError(f"timm has no model '{name}'{nearest(name, timm.list_models())}")
    tag = None if weights in (None, "DEFAULT") else pretrained.named(f"timm '{name}'", _tags(name), weights)
    seen = timm.get_pretrained_cfg(f"{name}.{tag}" if tag else name)
    if seen is None:
        raise UserError(f"timm '{name}' has no weights: set weights=null")
    channels = shape[0] if weights is None else seen.input_size[0]
    size = tuple(seen.input_size[1:])
    if weights is None and not seen.fixed_input_size:
        check_size(name, shape, 8)
        size = enlarged(shape, _LEAST)
    asked = {
        "pretrained": weights is not None and pretrained.wanted(),
        "num_classes": classes,
        "in_chans": channels,
        "drop_rate": dropout,
    }
    with_depth = asked | {"drop_path_rate": depth} if depth else asked
    full = f"{name}.{tag}" if tag else name
    try:
        net = _create(full, with_depth, asked if stochastic_depth == "auto" else None)
    except TypeError as error:
        raise UserError(
            f"timm '{name}' does not take these rates: set dropout=0 and stochastic_depth=0 ({error})"
        ) from error
    except Exception as error:  # the hub's client raises many kinds when a file cannot be had
        if weights is None or shortage.kind_of_shortage(error):
            raise
        raise UserError(
            f"the weights '{seen.hf_hub_id or seen.url}' of timm '{name}' are neither in the hub's cache "
            f"nor to be downloaded ({str(error).splitlines()[0][:120]}): set weights=null"
        ) from error
    if distillation_token and token_heads(net) is None:
        raise UserError(
            f"timm '{name}' has no distillation token: name one that has, such as "
            "deit_tiny_distilled_patch16_224, or leave distillation_token out"
        )
    if weights is None:
        return Fitted(net, InputFormat(channels=channels, size=size, mean=None, std=None))
    return Fitted(net, InputFormat(channels=channels, size=size, mean=tuple(seen.mean), std=tuple(seen.std)))


def _create(name: str, asked: Mapping[str, Any], bare: Mapping[str, Any] | None) -> nn.Module:
    """bare: what is asked where the network has no branches to drop; None: the same."""
    import timm

    try:
        return timm.create_model(name, **asked)
    except TypeError:
        if bare is None:
            raise
        return timm.create_model(name, **bare)


def _tags(name: str) -> list[str]:
    import timm

    return [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
