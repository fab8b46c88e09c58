"""What a transformer is made of, in words that all families share, so that what builds one network from
another names no family.

A part is a tensor of the network itself, not a copy: what is written into it changes the network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

WIDTH, HIDDEN, QUERIES, KEYS, FIXED = "width", "hidden", "queries", "keys", ""
"""What an axis of a part counts: numbers of the stream that runs through all blocks; numbers inside the
feed-forward layer; heads times numbers a head, of queries and of keys and values (fewer where heads share
them); and what is neither. Other words ("vocabulary", "positions", "outputs") are rows of a table.
"""


@dataclass(frozen=True)
class LabelledTensor:
    """tensor: a view of a parameter. axes: what each of its axes counts."""

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
    found = {f"{name}.weight": LabelledTensor(layer.weight, (out, into))}
    return found if layer.bias is None else found | {f"{name}.bias": LabelledTensor(layer.bias, (out,))}


def norm_parts(name: str, norm: nn.Module) -> dict[str, LabelledTensor]:
    """The same of a norm over the width."""
    return {f"{name}.{key}": LabelledTensor(value, (WIDTH,)) for key, value in norm.named_parameters()}


def fused_parts(weight: Tensor, bias: Tensor | None, queries: int, keys: int) -> dict[str, LabelledTensor]:
    """Those of "q", "k" and "v" in one layer, one below the other. queries, keys: rows of each."""
    found, start = {}, 0
    for name, axis, size in (("q", QUERIES, queries), ("k", KEYS, keys), ("v", KEYS, keys)):
        found[f"{name}.weight"] = LabelledTensor(weight[start : start + size], (axis, WIDTH))
        if bias is not None:
            found[f"{name}.bias"] = LabelledTensor(bias[start : start + size], (axis,))
        start += size
    return found


def transformer_parts(network: nn.Module) -> TransformerParts | None:
    """What the transformer in a network is made of, None where there is none that says so."""
    for module in network.modules():
        if isinstance(module, WithParts):
            return module.parts()
    return None
