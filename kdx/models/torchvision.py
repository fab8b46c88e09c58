"""torchvision's networks, with a stem that suits the picture.

From scratch (weights=null) they take the dataset's channels, and where pictures are small their early
halvings are left out. With pretrained weights they keep their own stem, size and normalisation, and get a new
last layer where the classes differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision import models as zoo
from torchvision.models.mobilenetv2 import InvertedResidual as MobileBlock
from torchvision.models.mobilenetv3 import InvertedResidual as MobileBlock3
from torchvision.models.resnet import Bottleneck

from kdx.core.checks import shown
from kdx.core.errors import UserError, nearest
from kdx.models import pretrained
from kdx.models.adapt import Fitted, InputFormat
from kdx.models.layers import DropPath, check_rates, check_size, drop_branches, rising
from kdx.models.small import (
    HALVINGS,
    even_patch,
    halve_less,
    halvings,
    in_one_list,
    patches_a_side,
    strided,
    take_channels,
)

VITS = {"vit_b": (12, 12, 768), "vit_l": (24, 16, 1024)}
"""Layers, heads and width."""


def resnet(
    *,
    shape: tuple[int, int, int],
    classes: int,
    variant: str,
    weights: str | None,
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module | Fitted:
    """He et al. 2015 (arXiv 1512.03385). variant: resnet18, resnet34, resnet50 ... Below 64 pixels the stem
    is a 3x3 convolution without stride or pooling, below 128 it loses its pooling. dropout acts on the pooled
    features; each block starts as the identity.
    """
    _check_variant(variant, ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"))
    stochastic_depth = check_rates(variant, dropout=dropout, stochastic_depth=stochastic_depth)
    net, known = _start(variant, weights, shape, classes, zero_init_residual=True)
    if known is None:
        kept = max(3, halvings(shape))
        if kept == 3:
            net.conv1 = nn.Conv2d(shape[0], 64, 3, 1, 1, bias=False)
        take_channels(net, "conv1", shape[0])
        if kept < HALVINGS:
            net.maxpool = nn.Identity()
            net.halves_less = kept > 3
    blocks = [block for stage in (net.layer1, net.layer2, net.layer3, net.layer4) for block in stage]
    for block, rate in zip(blocks, rising(stochastic_depth, len(blocks)), strict=True):
        last = "bn3" if isinstance(block, Bottleneck) else "bn2"
        setattr(block, last, DroppedNorm(getattr(block, last), rate))
    net.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Dropout(dropout))
    return with_pretrained(net, known, classes, (net, "fc"))


def mobilenet_v2(
    *,
    shape: tuple[int, int, int],
    classes: int,
    weights: str | None,
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module | Fitted:
    """Sandler et al. 2018 (arXiv 1801.04381), width 1. dropout acts before the last layer."""
    stochastic_depth = check_rates("mobilenet_v2", dropout=dropout, stochastic_depth=stochastic_depth)
    net, known = _start("mobilenet_v2", weights, shape, classes, dropout=dropout)
    if known is None:
        take_channels(net.features[0], "0", shape[0])
        halve_less(net, strided(net), shape)
    drop_branches(
        [block.conv for block in net.features if isinstance(block, MobileBlock) and block.use_res_connect],
        stochastic_depth,
    )
    return with_pretrained(net, known, classes, (net.classifier, "1"))


def mobilenet_v3(
    *,
    shape: tuple[int, int, int],
    classes: int,
    variant: str,
    weights: str | None,
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module | Fitted:
    """Howard et al. 2019 (arXiv 1905.02244). variant: mobilenet_v3_small or mobilenet_v3_large. dropout acts
    before the last layer.
    """
    _check_variant(variant, ("mobilenet_v3_small", "mobilenet_v3_large"))
    stochastic_depth = check_rates(variant, dropout=dropout, stochastic_depth=stochastic_depth)
    net, known = _start(variant, weights, shape, classes, dropout=dropout)
    if known is None:
        take_channels(net.features[0], "0", shape[0])
        halve_less(net, strided(net), shape)
    drop_branches(
        [block.block for block in net.features if isinstance(block, MobileBlock3) and block.use_res_connect],
        stochastic_depth,
    )
    return with_pretrained(net, known, classes, (net.classifier, "3"))


def shufflenet_v2(
    *,
    shape: tuple[int, int, int],
    classes: int,
    variant: str,
    weights: str | None,
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module | Fitted:
    """Ma et al. 2018 (arXiv 1807.11164). variant: shufflenet_v2_x0_5, _x1_0, _x1_5 or _x2_0. dropout acts on
    the pooled features.
    """
    _check_variant(
        variant, ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0")
    )
    check_rates(variant, dropout=dropout, stochastic_depth=stochastic_depth, residual=False)
    net, known = _start(variant, weights, shape, classes)
    if known is None:
        take_channels(net.conv1, "0", shape[0])
        halve_less(
            net,
            [
                [net.conv1[0]],
                [net.maxpool],
                *(in_one_list(strided(stage)) for stage in (net.stage2, net.stage3, net.stage4)),
            ],
            shape,
        )
    # Dropping whole maps before they are averaged is dropout on the averages.
    net.conv5.append(nn.Dropout2d(dropout))
    return with_pretrained(net, known, classes, (net, "fc"))


def efficientnet(
    *,
    shape: tuple[int, int, int],
    classes: int,
    variant: str,
    weights: str | None,
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module | Fitted:
    """Tan and Le 2019 (arXiv 1905.11946). variant: efficientnet_b0 ... b7. dropout acts before the last
    layer.
    """
    _check_variant(variant, tuple(f"efficientnet_b{i}" for i in range(8)))
    stochastic_depth = check_rates(variant, dropout=dropout, stochastic_depth=stochastic_depth)
    net, known = _start(
        variant, weights, shape, classes, dropout=dropout, stochastic_depth_prob=stochastic_depth
    )
    if known is None:
        take_channels(net.features[0], "0", shape[0])
        halve_less(net, strided(net), shape)
    return with_pretrained(net, known, classes, (net.classifier, "1"))


def vit(
    *,
    shape: tuple[int, int, int],
    classes: int,
    variant: str,
    patch: int | None,
    weights: str | None,
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module | Fitted:
    """Dosovitskiy et al. 2020 (arXiv 2010.11929). variant: vit_b_16, vit_b_32, vit_l_16 or vit_l_32.

    patch: pixels a side; null: about 4 patches a side below 24 pixels, 8 below 128, and the variant's own
    from there. Pictures that are not square, or not a whole number of patches, are resized to the next size
    that is. dropout acts in every block.
    """
    _check_variant(variant, ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32"))
    stochastic_depth = check_rates(variant, dropout=dropout, stochastic_depth=stochastic_depth)
    known = _known(variant, weights)
    if known is None:
        check_size(variant, shape, 8)
        patch, size = patches(variant, max(shape[1:]), patch)
        layers, heads, width = VITS[variant[:5]]
        net = zoo.VisionTransformer(
            image_size=size,
            patch_size=patch,
            num_layers=layers,
            num_heads=heads,
            hidden_dim=width,
            mlp_dim=4 * width,
            dropout=dropout,
            num_classes=classes,
        )
        net.conv_proj = nn.Conv2d(shape[0], net.hidden_dim, patch, patch)
        nn.init.trunc_normal_(net.conv_proj.weight, std=math.sqrt(1 / (shape[0] * patch * patch)))
        nn.init.zeros_(net.conv_proj.bias)
    else:
        if patch is not None:
            raise UserError(
                f"{variant}: patch={patch} does not go with weights={weights}, whose patches "
                "are fixed: set patch=null"
            )
        size = known.transforms().crop_size[0]
        net = zoo.get_model(
            variant, num_classes=len(known.meta["categories"]), dropout=dropout, image_size=size
        )
    layers = list(net.encoder.layers)
    for layer, rate in zip(layers, rising(stochastic_depth, len(layers)), strict=True):
        layer.dropout = nn.Sequential(layer.dropout, DropPath(rate))
        layer.mlp.append(DropPath(rate))
    made = with_pretrained(net, known, classes, (net.heads, "head"))
    if known is None and (size, size) != tuple(shape[1:]):
        return Fitted(net, InputFormat(channels=shape[0], size=(size, size), mean=None, std=None))
    return made


class DroppedNorm(nn.BatchNorm2d):
    """The batch norm that ends a residual branch, then stochastic depth. Its keys are those of the norm it
    replaces.
    """

    def __init__(self, norm: nn.BatchNorm2d, rate: float):
        super().__init__(norm.num_features, eps=norm.eps, momentum=norm.momentum)
        self.load_state_dict(norm.state_dict())
        self.drop = DropPath(rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(super().forward(x))


def patches(variant: str, side: int, patch: int | None) -> tuple[int, int]:
    """(patch, picture) in pixels a side, for pictures of `side`."""
    if patch is None and side >= 128:
        patch = int(variant[-2:])
    if patch is None:
        patch = even_patch(side, side) or math.ceil(side / patches_a_side(side))
    if isinstance(patch, bool) or not isinstance(patch, int) or not 1 <= patch <= side:
        raise UserError(
            f"{variant}: patch must be a whole number of pixels from 1 to the picture's {side}, not "
            f"{shown(patch)}; null picks one"
        )
    return patch, math.ceil(side / patch) * patch


def _check_variant(variant: str, options: Sequence[str]) -> None:
    if variant not in options:
        raise UserError(
            f"no such variant: '{shown(variant, bare=True)}'{nearest(shown(variant, bare=True), options)}"
        )


def _known(variant: str, weights: str | None) -> zoo.WeightsEnum | None:
    """torchvision's description of `weights`; None: from scratch."""
    if weights is None:
        return None
    options = zoo.get_model_weights(variant)
    return options[pretrained.named(variant, list(options.__members__), weights)]


def _start(
    variant: str, weights: str | None, shape: tuple[int, int, int], classes: int, **more: Any
) -> tuple[nn.Module, zoo.WeightsEnum | None]:
    """The network as torchvision makes it, with the pretrained number of classes where there are weights."""
    known = _known(variant, weights)
    if known is None:
        check_size(variant, shape, 8)
    return zoo.get_model(
        variant, num_classes=classes if known is None else len(known.meta["categories"]), **more
    ), known


def with_pretrained(
    net: nn.Module, known: zoo.WeightsEnum | None, classes: int, last: tuple[nn.Module, str]
) -> nn.Module | Fitted:
    """The network with these weights, the size, three channels and normalisation that they need, and a new
    last layer where the classes differ; from scratch (None) as it is. last: where the last layer is, its
    parent and its name there; a linear one or a convolution with a kernel of one pixel.
    """
    if known is None:
        return net
    pretrained.load_pretrained(net, known.url)
    parent, name = last
    layer = parent.get_submodule(name)
    if isinstance(layer, nn.Conv2d):
        if layer.out_channels != classes:
            setattr(parent, name, nn.Conv2d(layer.in_channels, classes, 1))
    elif layer.out_features != classes:
        setattr(parent, name, nn.Linear(layer.in_features, classes))
    seen = known.transforms()
    return Fitted(
        net,
        InputFormat(channels=3, size=(seen.crop_size[0],) * 2, mean=tuple(seen.mean), std=tuple(seen.std)),
    )
