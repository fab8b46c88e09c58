"""Networks that read texts, (B, L) whole numbers, each a token of a vocabulary and 0 padding behind the last:
a bag of embeddings and a convolutional net. And what stands between such rows and any network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdx.core.checks import shown
from kdx.core.errors import UserError
from kdx.models import reads
from kdx.models.layers import check_rates, check_whole
from kdx.models.tokens import TokenAdapter

PADDING, TEXTS_READ = 0, "texts"


class TextAdapter(TokenAdapter):
    """That of tokens, of rows that end in padding: padding and the unknown token are among the vocabulary.
    What is displayed is what a network is shown, so less than was written where that is cut.
    """

    padding = PADDING


class Bag(nn.Module):
    """The mean of the embeddings of a text's tokens, layer norm, dropout, linear; no order of words.

    Embeddings begin uniform in +-1/width, as fastText's do (Joulin et al. 2016, arXiv 1607.01759): a word
    that no label tells of then weighs little beside those that one does.
    """

    def __init__(self, vocabulary: int, width: int, outputs: int, dropout: float):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        with torch.no_grad():
            self.embedding.weight.uniform_(-1 / width, 1 / width)[PADDING] = 0
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, outputs))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) tokens -> (B, outputs). A text without a token is the zero vector."""
        there = (tokens != PADDING).unsqueeze(-1)
        known = self.embedding(tokens) * there
        return self.head(self.norm(known.sum(1) / there.sum(1).clamp(min=1)))


@reads(TEXTS_READ)
def bag(
    *,
    shape: Sequence[int],
    outputs: int,
    vocabulary: int,
    width: int,
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module:
    """A bag of embeddings. width: of an embedding."""
    check_whole("bag", width=width)
    check_rates("bag", dropout=dropout, stochastic_depth=stochastic_depth, residual=False)
    return Bag(vocabulary, width, outputs, dropout)


_KIM = 0.25
"""Of the embeddings of words without a pretrained one, in his code."""


class TextCNN(nn.Module):
    """Embeddings, convolutions over a few neighbouring tokens, ReLU, the largest value over the text,
    dropout, linear (Kim 2014, arXiv 1408.5882, "CNN-rand": embeddings begin uniform in +-0.25, and are
    learned).
    """

    def __init__(
        self, vocabulary: int, width: int, kernels: Sequence[int], maps: int, outputs: int, dropout: float
    ):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        with torch.no_grad():
            self.embedding.weight.uniform_(-_KIM, _KIM)[PADDING] = 0
        self.stage1 = nn.ModuleList(nn.Conv1d(width, maps, kernel) for kernel in kernels)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(maps * len(kernels), outputs))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) tokens -> (B, outputs)"""
        x = self.embedding(tokens).transpose(1, 2)
        return self.head(torch.cat([conv(x).relu().amax(2) for conv in self.stage1], 1))


def check_kernels(kernels: Any) -> tuple[int, ...]:
    """One whole number of tokens at least."""
    if not isinstance(kernels, list | tuple) or not kernels:
        raise UserError(f"text_cnn: kernels must be a list of numbers of tokens, not {shown(kernels)}")
    for kernel in kernels:
        check_whole("text_cnn", kernels=kernel)
    return tuple(kernels)


@reads(TEXTS_READ)
def text_cnn(
    *,
    shape: Sequence[int],
    outputs: int,
    vocabulary: int,
    width: int,
    kernels: Sequence[int],
    maps: int,
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module:
    """kernels: of how many tokens each group of convolutions sees; maps: convolutions in a group."""
    check_whole("text_cnn", width=width, maps=maps)
    kernels = check_kernels(kernels)
    check_rates("text_cnn", dropout=dropout, stochastic_depth=stochastic_depth, residual=False)
    if max(kernels) > shape[0]:
        raise UserError(
            f"text_cnn has a kernel of {max(kernels)} tokens, and rows have {shape[0]}: give it smaller "
            "ones, or set dataset.length higher"
        )
    return TextCNN(vocabulary, width, kernels, maps, outputs, dropout)
