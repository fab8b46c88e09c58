"""What a transformer is made of, in words that all families share, so that what builds one network from
another names no family.

A part is a tensor of the network itself, not a copy: what is written into it changes the network. The
vision transformers of torchvision and timm, which cannot say it themselves, are known here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

WIDTH, HIDDEN, QUERIES, KEYS, FIXED = "width", "hidden", "queries", "keys", ""
"""What an axis of a part counts: numbers of the stream that runs through all blocks; numbers inside the
feed-forward layer; heads times numbers a head, of queries and of keys and values (fewer where heads share
them); and what is neither. Other words ("vocabulary", "positions", "outputs") are rows of a table.
"""


@dataclass(frozen=True)
class LabelledTensor:
    """tensor: a view of a parameter, without gradient. axes: what each of its axes counts."""

    tensor: Tensor
    axes: tuple[str, ...]


@dataclass(frozen=True)
class TransformerParts:
    """family: what blocks and stream have in common, for a sentence ("GPT-2 style"): of two networks of one
    family each part means the same. width: of the stream; heads, kv_heads: of queries, and of keys and
    values; head_width: numbers a head; hidden: inside the feed-forward layer. rotary: whether numbers i and
    i + head_width/2 of a head are turned together, and so belong together.

    whole: parts outside of the blocks by name: "table" (vocabulary, width), "positions" (positions, width),
    "norm.weight", "norm.bias", "head.weight", "head.bias"; "table" lacks where rows are no tokens, "head"
    where it is the table. blocks: of each block "norm1", "q", "k", "v", "o", "norm2", "up", "gate", "down",
    each with ".weight" (outputs, inputs) and, where it has one, ".bias".
    """

    family: str
    width: int
    heads: int
    kv_heads: int
    head_width: int
    hidden: int
    rotary: bool
    whole: Mapping[str, LabelledTensor]
    blocks: Sequence[Mapping[str, LabelledTensor]]

    @property
    def tokens(self) -> bool:
        """Whether it reads tokens by a table."""
        return "table" in self.whole

    @property
    def tied(self) -> bool:
        """Whether its last layer is its table."""
        return self.tokens and "head.weight" not in self.whole


class WithParts(nn.Module, ABC):
    """A network that says what it is made of."""

    @abstractmethod
    def parts(self) -> TransformerParts:
        """Its parts, as views of its parameters."""


def linear_parts(name: str, layer: nn.Linear, out: str, into: str) -> dict[str, LabelledTensor]:
    """`name.weight` and, where there is one, `name.bias` of a linear layer."""
    found = {f"{name}.weight": LabelledTensor(layer.weight.detach(), (out, into))}
    bias = layer.bias
    return found if bias is None else found | {f"{name}.bias": LabelledTensor(bias.detach(), (out,))}


def norm_parts(name: str, norm: nn.Module) -> dict[str, LabelledTensor]:
    """The same of a norm over the width."""
    return {
        f"{name}.{key}": LabelledTensor(value.detach(), (WIDTH,)) for key, value in norm.named_parameters()
    }


def fused_parts(weight: Tensor, bias: Tensor | None, queries: int, keys: int) -> dict[str, LabelledTensor]:
    """Those of "q", "k" and "v" in one layer, one below the other. queries, keys: rows of each."""
    found, start = {}, 0
    for name, axis, size in (("q", QUERIES, queries), ("k", KEYS, keys), ("v", KEYS, keys)):
        found[f"{name}.weight"] = LabelledTensor(weight.detach()[start : start + size], (axis, WIDTH))
        if bias is not None:
            found[f"{name}.bias"] = LabelledTensor(bias.detach()[start : start + size], (axis,))
        start += size
    return found


def transformer_parts(network: nn.Module) -> TransformerParts | None:
    """What the transformer in a network is made of, None where there is none that says so."""
    for module in network.modules():
        if isinstance(module, WithParts):
            return module.parts()
        if (found := _of_library(module)) is not None:
            return found
    return None


# Vision transformers of libraries


def _of_library(module: nn.Module) -> TransformerParts | None:
    """Of one as Dosovitskiy et al. 2020 (arXiv 2010.11929) have it; None for a variant with more weights."""
    of = {
        ("torchvision.models.vision_transformer", "VisionTransformer"): _of_torchvision,
        ("timm.models.vision_transformer", "VisionTransformer"): _of_timm,
    }.get((type(module).__module__, type(module).__name__))
    try:
        found = None if of is None else of(module)
    except AttributeError:  # a variant that lacks a part
        return None
    if found is None:
        return None
    described = [part.tensor for group in (found.whole, *found.blocks) for part in group.values()]
    whole = sum(parameter.numel() for parameter in module.parameters())
    return found if sum(tensor.numel() for tensor in described) == whole else None


def _of_torchvision(net: Any) -> TransformerParts:
    layers = list(net.encoder.layers)
    blocks = [
        {
            **norm_parts("norm1", layer.ln_1),
            **_even(layer.self_attention.in_proj_weight, layer.self_attention.in_proj_bias),
            **linear_parts("o", layer.self_attention.out_proj, WIDTH, QUERIES),
            **norm_parts("norm2", layer.ln_2),
            **linear_parts("up", layer.mlp[0], HIDDEN, WIDTH),
            **linear_parts("down", layer.mlp[3], WIDTH, HIDDEN),
        }
        for layer in layers
    ]
    begin = (net.conv_proj, net.class_token, net.encoder.pos_embedding)
    return vision_parts(begin, layers[0].self_attention.num_heads, blocks, net.encoder.ln, net.heads[-1])


def _of_timm(net: Any) -> TransformerParts:
    layers = list(net.blocks)
    blocks = [
        {
            **norm_parts("norm1", layer.norm1),
            **_even(layer.attn.qkv.weight, layer.attn.qkv.bias),
            **linear_parts("o", layer.attn.proj, WIDTH, QUERIES),
            **norm_parts("norm2", layer.norm2),
            **linear_parts("up", layer.mlp.fc1, HIDDEN, WIDTH),
            **linear_parts("down", layer.mlp.fc2, WIDTH, HIDDEN),
        }
        for layer in layers
    ]
    begin = (net.patch_embed.proj, net.cls_token, net.pos_embed)
    return vision_parts(begin, layers[0].attn.num_heads, blocks, net.norm, net.head)


def _even(weight: Tensor, bias: Tensor | None) -> dict[str, LabelledTensor]:
    return fused_parts(weight, bias, len(weight) // 3, len(weight) // 3)


def vision_parts(
    begin: tuple[nn.Conv2d, Tensor, Tensor],
    heads: int,
    blocks: Sequence[Mapping[str, LabelledTensor]],
    norm: nn.Module,
    head: Any,
    more: Mapping[str, LabelledTensor] | None = None,
) -> TransformerParts:
    """Those of a vision transformer. begin: what makes patches, the class token (1, 1, width), positions (1,
    patches + 1, width). blocks: the parts of each; norm: the last one; head: the last layer, where it is a
    linear one. more: what else lies outside of the blocks."""
    patches, token, positions = begin
    width, whole = positions.shape[-1], {}
    whole["patches.weight"] = LabelledTensor(patches.weight.detach(), (WIDTH, FIXED, FIXED, FIXED))
    if patches.bias is not None:
        whole["patches.bias"] = LabelledTensor(patches.bias.detach(), (WIDTH,))
    whole["class_token"] = LabelledTensor(token.detach(), (FIXED, FIXED, WIDTH))
    whole["positions"] = LabelledTensor(positions.detach(), (FIXED, FIXED, WIDTH))
    whole |= norm_parts("norm", norm)
    if isinstance(head, nn.Linear):
        whole |= linear_parts("head", head, "outputs", WIDTH)
    whole |= more or {}
    return TransformerParts(
        family="vision transformer",
        width=width,
        heads=heads,
        kv_heads=heads,
        head_width=width // heads,
        hidden=len(blocks[0]["up.weight"].tensor),
        rotary=False,
        whole=whole,
        blocks=blocks,
    )
