"""Networks that find the answer to a question in a text: of each token how likely the answer begins and ends
there. Rows are tokens (B, L) with what of them can be an answer, context (B, L) bool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdx.core.errors import UserError
from kdx.core.positions import OUTSIDE
from kdx.models import reads
from kdx.models.layers import check_rates, check_whole
from kdx.models.text import PADDING, TextAdapter

QUESTIONS_READ = "questions"


class SpanAdapter(TextAdapter):
    """As TextAdapter; the logits of positions that can be no answer are OUTSIDE."""

    def wrap(self, made: nn.Module, shape: Any) -> nn.Module:
        return InsideContext(super().wrap(made, shape))

    def shape(self, shape: Any) -> Any:
        """Of one window, where a row has several."""
        return {name: tuple(sizes[-1:]) for name, sizes in shape.items()}

    def small(self, inputs: Any) -> np.ndarray:
        return super().small(inputs["tokens"].flatten(1))

    def displayed(self, inputs: Any) -> list[str] | None:
        """The question, the separator and the text, as far as a row, or its first window, holds them."""
        tokens = inputs["tokens"]
        return super().displayed(tokens if tokens.dim() == 2 else tokens[:, 0])


class InsideContext(nn.Module):
    """A network whose answers lie in the context alone. Rows of several windows are rows of one to it."""

    def __init__(self, inside: nn.Module):
        super().__init__()
        self.inside = inside

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(B, L), or (B, W, L) of W windows -> (B, outputs, W * L)"""
        context = inputs["context"]
        if context.dim() == 3:
            return self._of_windows(inputs["tokens"], context)
        logits: Tensor = self.inside(inputs)
        return logits.masked_fill(~context[:, None, :], OUTSIDE)

    def _of_windows(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Windows behind the first that hold nothing are not read, but where the network is traced."""
        rows, windows, length = tokens.shape
        flat, inside = tokens.flatten(0, 1), context.flatten(0, 1)
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            found = self({"tokens": flat, "context": inside})
        else:
            used = context.any(2)
            used[:, 0] = True
            used = used.flatten()
            said = self({"tokens": flat[used], "context": inside[used]})
            found = said.new_full((rows * windows, *said.shape[1:]), OUTSIDE)
            found = found.index_put((used,), said)
        return found.unflatten(0, (rows, windows)).transpose(1, 2).flatten(2)


class SpanBlock(nn.Module):
    """A convolution over neighbouring tokens, ReLU and dropout, added to what went in, and layer norm."""

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float):
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv1d(width, width, kernel, padding=padding, dilation=dilation)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(width)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """(B, L, D), (B, L, 1) 1 where a token is -> (B, L, D)"""
        seen = self.conv((x * there).transpose(1, 2)).transpose(1, 2)
        return self.norm(x + self.dropout(seen.relu()))


class SpanCNN(nn.Module):
    """Of each token its embedding, whether it is part of the context, whether it stands in the question too
    (Chen et al. 2017, arXiv 1704.00051, section 3.2), and the mean of the question's embeddings; a few
    convolutions that reach further from one to the next; linear.
    """

    def __init__(self, vocabulary: int, width: int, layers: int, kernel: int, dropout: float, outputs: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        self.mixed = nn.Linear(2 * width + 2, width)
        self.stage1 = nn.ModuleList(
            SpanBlock(width, kernel, 2 ** (layer % 4), dropout) for layer in range(layers)
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, outputs))

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """tokens (B, L), context (B, L) bool -> (B, outputs, L)"""
        tokens, context = inputs["tokens"].long(), inputs["context"]
        there = tokens != PADDING
        asked = there & (context.cumsum(1) == 0)
        known = self.embedding(tokens)
        question = (known * asked[..., None]).sum(1) / asked.sum(1, keepdim=True).clamp_min(1)
        same = ((tokens[:, :, None] == tokens[:, None, :]) & asked[:, None, :]).any(2)
        signs = torch.stack([context, same], 2).to(known.dtype)
        whole = question[:, None, :].expand_as(known)
        x = self.mixed(torch.cat([known, whole, signs], 2))
        for block in self.stage1:
            x = block(x, there[..., None].to(x.dtype))
        return self.head(x).transpose(1, 2)


@reads(QUESTIONS_READ)
def span_cnn(
    *,
    shape: Mapping[str, Sequence[int]],
    outputs: int,
    vocabulary: int,
    width: int,
    layers: int,
    kernel: int,
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module:
    """width: of an embedding and of a hidden state; kernel: tokens that a convolution sees, an odd
    number."""
    check_whole("span_cnn", width=width, layers=layers, kernel=kernel)
    check_rates("span_cnn", dropout=dropout, stochastic_depth=stochastic_depth, residual=False)
    if kernel % 2 == 0:
        raise UserError(f"span_cnn: kernel must be odd, so that each token has a middle; given: {kernel}")
    return SpanCNN(vocabulary, width, layers, kernel, dropout, outputs)
