"""A vision transformer for small pictures (Dosovitskiy et al. 2020, arXiv 2010.11929), with a distillation
token where it is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdx.core.checks import flag, shown
from kdx.core.errors import UserError, together
from kdx.models.decoder_layers import PreNormBlock, begin_weights, block_parts, norm_of
from kdx.models.distillation_token import MayHaveDistillationToken, mean_of_two
from kdx.models.layers import check_rates, check_whole, rising
from kdx.models.parts import (
    FIXED,
    WIDTH,
    LabelledTensor,
    TransformerParts,
    WithParts,
    linear_parts,
    vision_parts,
)
from kdx.models.small import even_patch

_BEGIN = 0.02
"""Deviation of tokens and positions at first."""


@dataclass(frozen=True)
class VisionShape:
    """channels, patch: pixels a side; grid: patches down and across. width: of the stream; depth: blocks;
    heads: of attention, which share the width; hidden: inside the feed-forward layer. outputs: classes."""

    channels: int
    patch: int
    grid: tuple[int, int]
    width: int
    depth: int
    heads: int
    hidden: int
    outputs: int
    bias: bool = True
    llama: bool = False
    causal: bool = False
    epsilon: float = 1e-6

    @property
    def kv_heads(self) -> int:
        return self.heads

    @property
    def head_width(self) -> int:
        return self.width // self.heads


class TokenMap(nn.Module):
    """(B, front + N, D) tokens, N of them of patches -> (B, D, h, w), the map of these."""

    def __init__(self, front: int, grid: tuple[int, int]):
        super().__init__()
        self.front, self.grid = front, grid

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, self.front :].transpose(1, 2).unflatten(2, self.grid)


class VisionTransformer(WithParts, MayHaveDistillationToken):
    """Patches by a convolution, a class token in front, learned positions, blocks with the norm before each
    branch, a last norm, and a linear layer on the class token.

    With a distillation token, which stands before all others, there is a linear layer on that too, and the
    answer is the mean of both probabilities, as logits: in training as in use, so that any loss can teach it.
    What `map` gives, the last tokens of the patches, no answer is made of: it is for terms on hidden layers.
    """

    def __init__(
        self, shape: VisionShape, *, distillation_token: bool, dropout: float, stochastic_depth: float
    ):
        super().__init__()
        self.shape = shape
        self.patches = nn.Conv2d(shape.channels, shape.width, shape.patch, shape.patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + math.prod(shape.grid), shape.width))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, shape.width)) if distillation_token else None
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.Sequential(
            *(PreNormBlock(shape, dropout, rate) for rate in rising(stochastic_depth, shape.depth))
        )
        self.norm = norm_of(shape)
        self.map = TokenMap(1 + distillation_token, shape.grid)
        self.distillation_head = nn.Linear(shape.width, shape.outputs) if distillation_token else None
        self.head = nn.Linear(shape.width, shape.outputs)
        self._begin()

    def _begin(self) -> None:
        begin_weights(self, self.blocks, self.shape.width)
        nn.init.normal_(self.patches.weight, std=(self.shape.channels * self.shape.patch**2) ** -0.5)
        nn.init.zeros_(self.patches.bias)
        for token in (self.class_token, self.positions, self.distillation_token):
            if token is not None:
                nn.init.normal_(token, std=_BEGIN)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, outputs) logits"""
        rows = x.shape[0]  # an export cannot follow len()
        patches = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(rows, -1, -1), patches], 1) + self.positions
        if self.distillation_token is not None:
            x = torch.cat([self.distillation_token.expand(rows, -1, -1), x], 1)
        x = self.norm(self.blocks(self.drop(x)))
        self.map(x)
        if self.distillation_head is None:
            return self.head(x[:, 0])
        return mean_of_two(self.head(x[:, 1]), self.distillation_head(x[:, 0]))

    def token_heads(self) -> tuple[nn.Module, nn.Module] | None:
        return None if self.distillation_head is None else (self.head, self.distillation_head)

    def parts(self) -> TransformerParts:
        """Its parts, as views of its parameters. The distillation token and its layer go by names of their
        own, which a network without them lacks."""
        begin = (self.patches, self.class_token, self.positions)
        blocks = [block_parts(block) for block in self.blocks]
        more = {}
        if self.distillation_token is not None:
            token = self.distillation_token.detach()
            more["distillation_token"] = LabelledTensor(token, (FIXED, FIXED, WIDTH))
            more |= linear_parts("distillation_head", self.distillation_head, "outputs", WIDTH)
        return vision_parts(begin, self.shape.heads, blocks, self.norm, self.head, more)


def vision_transformer(
    *,
    shape: tuple[int, int, int],
    classes: int,
    patch: int | None,
    width: int,
    depth: int,
    heads: int,
    hidden: int,
    distillation_token: bool,
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module:
    """Of pictures of any size that a patch divides.

    patch: pixels a side; null: what cuts the picture evenly into about 4 a side below 24 pixels, and about 8
    from there. hidden: inside the feed-forward layer. dropout acts in every block. Raises UserError where the
    keys do not go together, or with the size of the pictures.
    """
    check_whole("vit", width=width, depth=depth, heads=heads, hidden=hidden)
    flag("vit: distillation_token", distillation_token)
    depth_rate = check_rates("vit", dropout=dropout, stochastic_depth=stochastic_depth)
    if width % heads:
        raise UserError(f"vit: width={width} is shared out among heads={heads}: choose one that divides it")
    patch = checked_patch(shape, patch)
    found = VisionShape(
        channels=shape[0],
        patch=patch,
        grid=(shape[1] // patch, shape[2] // patch),
        width=width,
        depth=depth,
        heads=heads,
        hidden=hidden,
        outputs=classes,
    )
    return VisionTransformer(
        found, distillation_token=distillation_token, dropout=dropout, stochastic_depth=depth_rate
    )


def checked_patch(shape: tuple[int, int, int], patch: int | None) -> int:
    """The patch that is asked for, or of null the one that suits. Raises UserError where it does not cut the
    picture evenly."""
    height, width = shape[1:]
    both = math.gcd(height, width)
    even = [side for side in range(1, both + 1) if both % side == 0]
    if patch is None:
        if (found := even_patch(height, width)) is not None:
            return found
        enough = max(side for side in even if max(height, width) // side >= 4 or side == 1)
        raise UserError(
            f"vit cuts pictures into equal patches, and of {height}x{width} pixels none leaves about 4 a "
            f"side (from 24 pixels on 8): set patch={enough}, resize the pictures, or take cnn"
        )
    if isinstance(patch, bool) or not isinstance(patch, int) or patch not in even:
        raise UserError(
            f"vit: patch must divide the picture's {height}x{width} pixels, as {together([*map(str, even)])} "
            f"do{'es' * (len(even) == 1)}; given: {shown(patch)}; null picks one"
        )
    return patch
