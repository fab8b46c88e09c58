"""An encoder of texts: a transformer in the form of BERT (Devlin et al. 2018, arXiv 1810.04805), and a
network that classifies by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdx.core.checks import choice
from kdx.core.errors import UserError
from kdx.models import reads
from kdx.models.layers import DropPath, check_rates, check_whole, rising
from kdx.models.text import PADDING, TEXTS_READ
from kdx.models.vectors import MakesVectors

POOLINGS = ("mean", "first")
ENDS = 2
"""Positions that an encoder adds to a text: one in front, one behind its last token."""
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}
_BEGIN = 0.02
"""Deviation of weights at first, as BERT's."""


@dataclass(frozen=True)
class EncoderSizes:
    """vocabulary: tokens; width: of a hidden state; inner: of the layer between the two linear ones of a
    block; positions: of the longest row, the two ends among them."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int
    positions: int
    activation: str = "gelu"
    epsilon: float = 1e-12


class EncoderBlock(nn.Module):
    """Attention, and two linear layers with a non-linearity between, each with dropout, added to what went
    in, and layer norm after. depth: the rate at which each of the two is dropped (stochastic depth)."""

    def __init__(self, sizes: EncoderSizes, dropout: float, depth: float):
        super().__init__()
        width = sizes.width
        self.heads, self.rate = sizes.heads, dropout
        self.activation = ACTIVATIONS[sizes.activation]
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, sizes.inner), nn.Linear(sizes.inner, width)
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=sizes.epsilon) for _ in range(2))
        self.dropout, self.path = nn.Dropout(dropout), DropPath(depth)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """(B, S, D) hidden states, (B, S) bool where a token is -> (B, S, D)"""
        q, k, v = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        seen = F.scaled_dot_product_attention(
            q, k, v, attn_mask=there[:, None, None, :], dropout_p=self.rate if self.training else 0.0
        )
        x = self.norm1(x + self.path(self.dropout(self.out(seen.transpose(1, 2).flatten(2)))))
        return self.norm2(x + self.path(self.dropout(self.down(self.activation(self.up(x))))))


class TextEncoder(nn.Module):
    """Hidden states of the tokens of a text, and of its two ends.

    A vector of its own is put in front of each text, and another behind its last token: what BERT has the
    tokens [CLS] and [SEP] for, which rows of kdx do not hold. trims: cuts padding off that no row of a batch
    needs, which changes no answer but in its last bits, and no export can do.
    """

    def __init__(self, sizes: EncoderSizes, dropout: float, *, depth: float = 0.0, trims: bool = False):
        super().__init__()
        self.sizes, self.trims = sizes, trims
        self.tokens = nn.Embedding(sizes.vocabulary, sizes.width, padding_idx=PADDING)
        self.ends = nn.Parameter(torch.zeros(ENDS, sizes.width))
        self.places = nn.Parameter(torch.zeros(sizes.positions, sizes.width))
        self.norm = nn.LayerNorm(sizes.width, eps=sizes.epsilon)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            EncoderBlock(sizes, dropout, rate) for rate in rising(depth, sizes.layers)
        )
        self._begin()

    def _begin(self) -> None:
        with torch.no_grad():
            for weight in (self.tokens.weight, self.ends, self.places):
                weight.normal_(0, _BEGIN)
            self.tokens.weight[PADDING] = 0
            for part in self.modules():
                if isinstance(part, nn.Linear):
                    part.weight.normal_(0, _BEGIN)
                    part.bias.zero_()

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) tokens, 0 behind the last -> (B, L + 2, D), zeros where no token and no end is"""
        length = (tokens != PADDING).sum(1)
        whole = tokens.shape[1]
        kept = max(1, int(length.max())) if self.trims and tokens.shape[0] else whole
        tokens = tokens[:, :kept]
        rows, width = tokens.shape[0], self.sizes.width  # an export cannot follow len()
        place = torch.arange(kept + ENDS, device=tokens.device)
        last = (place == length[:, None] + 1)[:, :, None]
        there = place <= length[:, None] + 1
        first = self.ends[:1].expand(rows, 1, width)
        x = torch.cat([first, self.tokens(tokens), self.tokens.weight.new_zeros(rows, 1, width)], 1)
        x = torch.where(last, self.ends[1], x) + self.places[: kept + ENDS]
        x = self.dropout(self.norm(x))
        for block in self.blocks:
            x = block(x, there)
        return F.pad(x * there[:, :, None], (0, 0, 0, whole - kept))


class Sentences(MakesVectors):
    """One vector for each text: of an encoder's hidden states the mean over tokens and ends, or the first.

    normalise: whether it has length 1.
    """

    def __init__(self, encoder: nn.Module, pooling: str, normalise: bool):
        super().__init__()
        self.encoder, self.normalise = encoder, normalise
        self.pooling = choice("pooling", pooling, POOLINGS)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, D)"""
        hidden = self.encoder(tokens)
        if self.pooling == "first":
            found = hidden[:, 0]
        else:  # all else is zeros
            found = hidden.sum(1) / ((tokens != PADDING).sum(1, keepdim=True) + ENDS)
        return F.normalize(found, dim=1) if self.normalise else found


class TextClassifier(nn.Module):
    """Sentences, dropout, linear."""

    def __init__(self, sentences: Sentences, width: int, outputs: int, dropout: float):
        super().__init__()
        self.sentences = sentences
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, outputs))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) tokens -> (B, outputs)"""
        return self.head(self.sentences(tokens))


def encoder_in(network: nn.Module) -> TextEncoder | None:
    """The first encoder in a network; None: it has none."""
    return next((part for part in network.modules() if isinstance(part, TextEncoder)), None)


def check_positions(name: str, length: int, positions: int, instead: str) -> None:
    """Raises UserError where rows of `length` tokens, and the two ends, are more than an encoder has
    positions for."""
    if length + ENDS > positions:
        raise UserError(
            f"{name} has {positions:,} positions, and rows of {length:,} tokens with their two ends need "
            f"{length + ENDS:,}: {instead}"
        )


def check_small_encoder(
    name: str, sizes: EncoderSizes, length: int, dropout: float, stochastic_depth: float | str
) -> float:
    """The rate of stochastic depth. name: of the option; length: tokens of a row. Raises UserError where the
    keys do not go together."""
    check_whole(
        name,
        width=sizes.width,
        layers=sizes.layers,
        heads=sizes.heads,
        inner=sizes.inner,
        positions=sizes.positions,
    )
    depth = check_rates(name, dropout=dropout, stochastic_depth=stochastic_depth)
    if sizes.width % sizes.heads:
        raise UserError(
            f"{name}: width={sizes.width} is shared out among heads={sizes.heads}: choose one that divides it"
        )
    instead = f"set dataset.length={sizes.positions - ENDS}, or more positions"
    check_positions(name, length, sizes.positions, instead)
    return depth


@reads(TEXTS_READ)
def encoder_small(
    *,
    shape: Sequence[int],
    outputs: int,
    vocabulary: int,
    width: int,
    layers: int,
    heads: int,
    inner: int,
    positions: int,
    pooling: str,
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module:
    """A small encoder that classifies. inner: width of the layer inside a block; positions: of the longest
    row it could read, its two ends among them."""
    sizes = EncoderSizes(vocabulary, width, layers, heads, inner, positions)
    depth = check_small_encoder("encoder_small", sizes, shape[0], dropout, stochastic_depth)
    encoder = TextEncoder(sizes, dropout, depth=depth)
    return TextClassifier(Sentences(encoder, pooling, False), width, outputs, dropout)
