"""Networks made to take small pictures, and those of torchvision any number of channels."""

from __future__ import annotations

import math

from torch import nn

HALVINGS = 5
"""Times that each of these networks halves its map."""


def halvings(shape: tuple[int, int, int]) -> int:
    """How often a picture is halved, 2 to 5 times, by its longer side: up to three times while 2x2 is left,
    then while 4x4 is left. 8 pixels: 2; 16 and 32: 3; 64 and 96: 4; 128 and more: 5.
    """
    side = max(shape[1:])
    return min(HALVINGS, max(min(3, int(math.log2(side / 2))), int(math.log2(side / 4))))


def patches_a_side(side: int) -> int:
    """How many patches a picture of `side` pixels should have along its longer side: 4 below 24 pixels, 8
    from there.
    """
    return 4 if side < 24 else 8


def even_patch(height: int, width: int) -> int | None:
    """Pixels a side of the patch that cuts a picture evenly and leaves about `patches_a_side` along the
    longer side, from three quarters to twice as many. 8 pixels: 2; 28 and 32: 4; 96: 12. None: no patch does.
    """
    side, both = max(height, width), math.gcd(height, width)
    aim = patches_a_side(side)
    counts = [side // patch for patch in range(1, both + 1) if both % patch == 0]
    fit = [count for count in sorted(counts) if aim - aim // 4 <= count <= 2 * aim]
    return side // min(fit, key=lambda count: abs(count - aim)) if fit else None


def take_channels(parent: nn.Module, name: str, channels: int) -> None:
    """Makes the first convolution take `channels`."""
    old = parent.get_submodule(name)
    if old.in_channels != channels:
        new = nn.Conv2d(
            channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=old.bias is not None
        )
        nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
        setattr(parent, name, new)


def strided(module: nn.Module) -> list[list[nn.Module]]:
    """The convolutions that halve, in order, each alone."""
    return [[part] for part in module.modules() if isinstance(part, nn.Conv2d) and part.stride == (2, 2)]


def in_one_list(groups: list[list[nn.Module]]) -> list[nn.Module]:
    return [part for group in groups for part in group]


def halve_less(net: nn.Module, groups: list[list[nn.Module]], shape: tuple[int, int, int]) -> None:
    """Takes the stride from the first of the halving layers, so that the last map of a small picture is no
    single pixel.

    net.halves_less: whether it did, which no shape in its state dict shows.
    """
    net.halves_less = halvings(shape) < len(groups)
    for group in groups[: len(groups) - halvings(shape)]:
        for part in group:
            part.stride = 1 if isinstance(part, nn.MaxPool2d) else (1, 1)
