"""Encoders that find spans: by each token's hidden state, how likely an answer begins and ends there (Devlin
et al. 2018, arXiv 1810.04805, section 4.2). An end is put in front of the question, one behind the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from kdx.core.errors import UserError
from kdx.models import reads
from kdx.models.encoder import EncoderSizes, TextEncoder, check_small_encoder
from kdx.models.pretrained_encoder import TunedEncoder
from kdx.models.spans import QUESTIONS_READ


def span_logits(encoder: nn.Module, head: nn.Module, tokens: Tensor) -> Tensor:
    """(B, L) tokens -> (B, outputs, L)"""
    hidden = encoder(tokens.long())[:, 1 : 1 + tokens.shape[1]]  # but the one in front
    logits: Tensor = head(hidden).transpose(1, 2)
    return logits


class SpanEncoder(nn.Module):
    """An encoder, dropout, linear."""

    def __init__(self, sizes: EncoderSizes, outputs: int, dropout: float, depth: float):
        super().__init__()
        self.encoder = TextEncoder(sizes, dropout, depth=depth)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(sizes.width, outputs))

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """tokens (B, L) -> (B, outputs, L)"""
        return span_logits(self.encoder, self.head, inputs["tokens"])


@reads(QUESTIONS_READ)
def span_encoder(
    *,
    shape: Mapping[str, Sequence[int]],
    outputs: int,
    vocabulary: int,
    width: int,
    layers: int,
    heads: int,
    inner: int,
    positions: int,
    dropout: float,
    stochastic_depth: float | str,
) -> nn.Module:
    """Keys: as of encoder_small."""
    sizes = EncoderSizes(vocabulary, width, layers, heads, inner, positions)
    depth = check_small_encoder("span_encoder", sizes, shape["tokens"][0], dropout, stochastic_depth)
    return SpanEncoder(sizes, outputs, dropout, depth)


@reads(QUESTIONS_READ)
class TunedSpanEncoder(TunedEncoder):
    """An encoder that begins with the weights of its folder and is trained on, with a linear layer on each
    token's hidden state. Question and text are of one segment to it.
    """

    folders: ClassVar[tuple[str, ...]] = ("path",)

    def __init__(
        self,
        *,
        shape: Mapping[str, Sequence[int]],
        outputs: int,
        vocabulary: int,
        path: str | None,
        dropout: float,
        stochastic_depth: float | str,
    ):
        super().__init__(
            shape=shape["tokens"],
            outputs=outputs,
            vocabulary=vocabulary,
            path=path,
            dropout=dropout,
            stochastic_depth=stochastic_depth,
        )

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:  # type: ignore[override]
        """tokens (B, L) -> (B, outputs, L)"""
        if self.sentences is None:
            raise UserError("this encoder has no weights yet: its folder is not there")
        return span_logits(self.sentences.encoder, self.head, inputs["tokens"])
