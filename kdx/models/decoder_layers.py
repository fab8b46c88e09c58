"""The layers of decoder.py, attention, feed-forward layers, and the cache of what was read; vit.py has its
blocks of the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdx.models.layers import DropPath
from kdx.models.parts import HIDDEN, QUERIES, WIDTH, LabelledTensor, fused_parts, linear_parts, norm_parts


class BlockShape(Protocol):
    """What a block is made of, in the words of `DecoderShape`. llama: gated feed-forward layers and norms
    without a mean; causal: tokens see those up to their own, else all of the row.
    """

    width: int
    heads: int
    kv_heads: int
    head_width: int
    hidden: int
    bias: bool
    epsilon: float
    llama: bool
    causal: bool


@dataclass(frozen=True)
class DecoderShape:
    """family: "gpt" or "llama". vocabulary: tokens that the table has a row for; outputs: that the last layer
    has. head_width: numbers a head. hidden: inside the feed-forward layer. positions: tokens a row at most.
    tied: the last layer is the table. bias: of all linear layers in the blocks. epsilon: of the norms.
    base: of the rotary frequencies.
    """

    family: str
    vocabulary: int
    outputs: int
    width: int
    depth: int
    heads: int
    kv_heads: int
    head_width: int
    hidden: int
    positions: int
    tied: bool
    bias: bool
    epsilon: float = 1e-5
    base: float = 10000.0

    @property
    def llama(self) -> bool:
        return self.family == "llama"

    @property
    def causal(self) -> bool:
        return True


class Cache:
    """Keys and values of the tokens that were read, so that later ones are read without them. room: tokens at
    most; length: those read so far. For answers without gradient.
    """

    def __init__(self, room: int):
        self.room, self.length = room, 0
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def extended(self, block: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Of one block's new keys and values, (B, kv_heads, n, head_width): those of all tokens so far."""
        if block not in self._kept:
            size = (*keys.shape[:2], self.room, keys.shape[3])
            self._kept[block] = keys.new_empty(size), values.new_empty(size)
        end = self.length + keys.shape[2]
        for kept, new in zip(self._kept[block], (keys, values), strict=True):
            kept[:, :, self.length : end] = new.detach()
        kept_keys, kept_values = self._kept[block]
        return kept_keys[:, :, :end], kept_values[:, :, :end]


def turned(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions (Su et al. 2021, arXiv 2104.09864): numbers i and i + half of each head are turned by
    their token's angle. x: (B, heads, L, head_width); angles: cosine and sine, each (L, head_width)."""
    first, second = x.chunk(2, dim=-1)
    cosine, sine = (part.to(x.dtype) for part in angles)
    return x * cosine + torch.cat([-second, first], -1) * sine


class Attention(nn.Module):
    """Heads that see the tokens up to their own, or all of them. Of Llama's, several heads of queries share
    keys and values (Ainslie et al. 2023, arXiv 2305.13245)."""

    def __init__(self, shape: BlockShape, dropout: float):
        super().__init__()
        self.shape, self.dropout = shape, dropout
        self.queries, self.keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
        self.qkv = nn.Linear(shape.width, self.queries + 2 * self.keys, bias=shape.bias)
        self.out = nn.Linear(self.queries, shape.width, bias=shape.bias)

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor] | None, block: int, cache: Cache | None
    ) -> Tensor:
        """(B, L, width) -> (B, L, width)"""
        q, k, v = (
            part.unflatten(-1, (-1, self.shape.head_width)).transpose(1, 2)
            for part in self.qkv(x).split([self.queries, self.keys, self.keys], -1)
        )
        if angles is not None:
            q, k = turned(q, angles), turned(k, angles)
        if cache is not None:
            k, v = cache.extended(block, k, v)
        new, seen = q.shape[2], k.shape[2]
        mask = None
        if 1 < new < seen:
            mask = torch.ones(new, seen, dtype=torch.bool, device=x.device).tril(seen - new)
        found = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=self.shape.causal and new == seen,
            enable_gqa=self.shape.heads != self.shape.kv_heads,
        )
        return self.out(found.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Linear, GELU (its tanh form, as GPT-2's), linear; or Llama's gated one (Shazeer 2020, arXiv
    2002.05202).
    """

    def __init__(self, shape: BlockShape):
        super().__init__()
        self.up = nn.Linear(shape.width, shape.hidden, bias=shape.bias)
        self.gate = nn.Linear(shape.width, shape.hidden, bias=shape.bias) if shape.llama else None
        self.down = nn.Linear(shape.hidden, shape.width, bias=shape.bias)

    def forward(self, x: Tensor) -> Tensor:
        up = self.up(x)
        inner = F.gelu(up, approximate="tanh") if self.gate is None else F.silu(self.gate(x)) * up
        return self.down(inner)


def norm_of(shape: BlockShape) -> nn.Module:
    kind = nn.RMSNorm if shape.llama else nn.LayerNorm
    return kind(shape.width, eps=shape.epsilon)


class PreNormBlock(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)), each with dropout and stochastic depth."""

    def __init__(self, shape: BlockShape, dropout: float, drop_path: float):
        super().__init__()
        self.norm1, self.attention = norm_of(shape), Attention(shape, dropout)
        self.norm2, self.mlp = norm_of(shape), FeedForward(shape)
        self.drop = nn.Sequential(nn.Dropout(dropout), DropPath(drop_path))

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor] | None = None,
        block: int = 0,
        cache: Cache | None = None,
    ) -> Tensor:
        """(B, L, width) -> (B, L, width)"""
        x = x + self.drop(self.attention(self.norm1(x), angles, block, cache))
        return x + self.drop(self.mlp(self.norm2(x)))


def block_parts(block: PreNormBlock) -> dict[str, LabelledTensor]:
    attention, mlp = block.attention, block.mlp
    fused = fused_parts(attention.qkv.weight, attention.qkv.bias, attention.queries, attention.keys)
    gate = {} if mlp.gate is None else linear_parts("gate", mlp.gate, HIDDEN, WIDTH)
    return {
        **norm_parts("norm1", block.norm1),
        **fused,
        **linear_parts("o", attention.out, WIDTH, QUERIES),
        **norm_parts("norm2", block.norm2),
        **linear_parts("up", mlp.up, HIDDEN, WIDTH),
        **gate,
        **linear_parts("down", mlp.down, WIDTH, HIDDEN),
    }


def begin_weights(network: nn.Module, blocks: Iterable[PreNormBlock], width: int) -> None:
    """Normal, with the deviation that GPT-2's 0.02 is at its width of 768; what ends a branch is divided by
    the root of their number (Radford et al. 2019). At 32 wide 0.02 itself learns more slowly.
    """
    std = (3 * width) ** -0.5
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    blocks = list(blocks)
    for block in blocks:
        for last in (block.attention.out, block.mlp.down):
            nn.init.normal_(last.weight, std=std / (2 * len(blocks)) ** 0.5)
