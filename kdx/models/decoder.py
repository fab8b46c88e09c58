"""Transformers that read tokens from left to right and say which one comes next, of two families: GPT-2 style
(learned positions, LayerNorm, GELU) and Llama style (RMSNorm, rotary positions, shared key and value heads,
SwiGLU). Weights go to and from transformers' classes of the same families (kdx.models.save_pretrained).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from kdx.core.errors import UserError
from kdx.core.hidden_answers import TellsHidden
from kdx.core.rollouts import Rolling, RollsOut
from kdx.core.trees import Tree
from kdx.models import reads
from kdx.models.decoder_layers import (
    Cache,
    DecoderShape,
    PreNormBlock,
    begin_weights,
    block_parts,
    norm_of,
)
from kdx.models.layers import check_rates, check_whole, rising
from kdx.models.parts import WIDTH, LabelledTensor, TransformerParts, WithParts, linear_parts, norm_parts
from kdx.models.sampling import continued

TOKENS_READ = "tokens"
_MULTIPLE = 8
"""Llama's feed-forward width is rounded up to a multiple."""


class DecoderNetwork(WithParts, RollsOut, TellsHidden):
    """A stack of such blocks between a table of tokens and a last layer.

    checkpointing: in training each block's inside is computed again in the backward pass, so that only what
    runs between blocks is held: less memory, a third more time, the same gradients.
    """

    def __init__(self, shape: DecoderShape, *, dropout: float, stochastic_depth: float, checkpointing: bool):
        super().__init__()
        self.build(shape, dropout=dropout, stochastic_depth=stochastic_depth, checkpointing=checkpointing)

    def build(
        self, shape: DecoderShape, *, dropout: float, stochastic_depth: float, checkpointing: bool
    ) -> None:
        """Makes its layers, with fresh weights."""
        self.shape, self.checkpointing = shape, checkpointing
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.positions = None if shape.llama else nn.Embedding(shape.positions, shape.width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            PreNormBlock(shape, dropout, rate) for rate in rising(stochastic_depth, shape.depth)
        )
        self.norm = norm_of(shape)
        self.head = None if shape.tied else nn.Linear(shape.width, shape.outputs, bias=False)
        begin_weights(self, self.blocks, shape.width)

    @property
    def head_weight(self) -> Tensor:
        """(V, width): `hidden` times it are the logits. Tied, it is the table."""
        return self.embedding.weight if self.head is None else self.head.weight

    @property
    def before_head(self) -> nn.Module:
        return self.norm

    def hidden(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, L) tokens -> (B, L, width), what the last layer reads. cache: see `forward`. Raises UserError
        where there are more tokens than positions."""
        start = 0 if cache is None else cache.length
        end = start + tokens.shape[1]
        if end > self.shape.positions:
            raise UserError(
                f"a row of {end} tokens is longer than the {self.shape.positions} positions of this network: "
                "cut rows to them (dataset.length=), or give it more (positions=)"
            )
        if cache is not None and end > cache.room:
            raise ValueError(f"{end} tokens for a cache of {cache.room}")
        places = torch.arange(start, end, device=tokens.device)
        x = self.embedding(tokens.long())
        if self.positions is not None:
            x = x + self.positions(places)
        angles = self._angles(places) if self.shape.llama else None
        x = self.drop(x)
        again = self.checkpointing and self.training and torch.is_grad_enabled() and cache is None
        for i, block in enumerate(self.blocks):
            x = (
                checkpoint(block, x, angles, i, None, use_reentrant=False)
                if again
                else block(x, angles, i, cache)
            )
        if cache is not None:
            cache.length = end
        return self.norm(x)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, L) tokens -> (B, L, V) logits of the token that comes next. cache: what was read before, of the
        same B rows; these tokens follow it, and are added."""
        return F.linear(self.hidden(tokens, cache), self.head_weight)

    def last_logits(self, tokens: Tensor, cache: Cache) -> Tensor:
        """(B, L) tokens -> (B, V) logits of what comes behind the last of them."""
        return F.linear(self.hidden(tokens, cache)[:, -1], self.head_weight)

    def roll_out(self, rows: Tree, how: Rolling, generator: torch.Generator) -> Tree:
        """(B, L) tokens -> (B, L): all but the first are drawn, of the rest of a row, from what it says."""
        assert isinstance(rows, Tensor)
        places = rows.shape[1]
        return continued(self.last_logits, rows[:, : how.kept(places)], places, how.temperature, generator)

    def check_rolling(self, places: int, how: Rolling) -> None:
        if isinstance(how.prompt, int) and how.prompt >= places:
            raise UserError(
                f"{how.node}.prompt={how.prompt} keeps all {places} tokens of a row, and leaves nothing to "
                f"go on with: set it to {places - 1} at most"
            )

    def _angles(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of each token's angles, both (L, head_width), float32 in any precision."""
        width = self.shape.head_width
        steps = torch.arange(0, width, 2, device=places.device, dtype=torch.float32)
        angles = torch.outer(places.float(), self.shape.base ** (-steps / width))
        angles = torch.cat([angles, angles], -1)
        return angles.cos(), angles.sin()

    def parts(self) -> TransformerParts:
        shape = self.shape
        whole = {"table": LabelledTensor(self.embedding.weight.detach(), ("vocabulary", WIDTH))}
        if self.positions is not None:
            whole["positions"] = LabelledTensor(self.positions.weight.detach(), ("positions", WIDTH))
        whole |= norm_parts("norm", self.norm)
        if self.head is not None:
            whole |= linear_parts("head", self.head, "outputs", WIDTH)
        return TransformerParts(
            family="Llama style" if shape.llama else "GPT-2 style",
            width=shape.width,
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            head_width=shape.head_width,
            hidden=shape.hidden,
            rotary=shape.llama,
            whole=whole,
            blocks=[block_parts(block) for block in self.blocks],
        )


@reads(TOKENS_READ)
def gpt(
    *,
    shape: Sequence[int],
    outputs: int,
    vocabulary: int,
    width: int,
    depth: int,
    heads: int,
    hidden: int | None,
    positions: int | None,
    bias: bool,
    tied: bool,
    dropout: float,
    stochastic_depth: float | str,
    checkpointing: bool,
) -> DecoderNetwork:
    """GPT-2 style (Radford et al. 2019). hidden: None: four widths. positions: None: as many as a row has
    tokens."""
    found = DecoderShape(
        family="gpt",
        vocabulary=vocabulary,
        outputs=outputs,
        width=width,
        depth=depth,
        heads=heads,
        kv_heads=heads,
        head_width=_head_width("gpt", width, heads),
        hidden=4 * width if hidden is None else hidden,
        positions=shape[0] if positions is None else positions,
        tied=tied,
        bias=bias,
    )
    return _made(found, shape, dropout, stochastic_depth, checkpointing)


@reads(TOKENS_READ)
def llama(
    *,
    shape: Sequence[int],
    outputs: int,
    vocabulary: int,
    width: int,
    depth: int,
    heads: int,
    kv_heads: int | None,
    hidden: int | None,
    positions: int | None,
    tied: bool,
    dropout: float,
    stochastic_depth: float | str,
    checkpointing: bool,
) -> DecoderNetwork:
    """Llama style (Touvron et al. 2023, arXiv 2302.13971). kv_heads: heads of keys and values, each for
    heads / kv_heads heads of queries, None: as many. hidden: None: 8/3 widths, rounded up to a multiple of 8.
    positions: tokens a row at most, None: as many as a row has.
    """
    found = DecoderShape(
        family="llama",
        vocabulary=vocabulary,
        outputs=outputs,
        width=width,
        depth=depth,
        heads=heads,
        kv_heads=heads if kv_heads is None else kv_heads,
        head_width=_head_width("llama", width, heads),
        hidden=-(-8 * width // (3 * _MULTIPLE)) * _MULTIPLE if hidden is None else hidden,
        positions=shape[0] if positions is None else positions,
        tied=tied,
        bias=False,
    )
    return _made(found, shape, dropout, stochastic_depth, checkpointing)


def _head_width(model: str, width: int, heads: int) -> int:
    check_whole(model, width=width, heads=heads)
    if width % heads:
        raise UserError(f"{model}: width must be a multiple of heads; given: width={width} and heads={heads}")
    return width // heads


def _made(
    made: DecoderShape,
    shape: Sequence[int],
    dropout: float,
    stochastic_depth: float | str,
    checkpointing: bool,
) -> DecoderNetwork:
    """The network, once its numbers go together."""
    model = made.family
    check_whole(model, depth=made.depth, kv_heads=made.kv_heads, hidden=made.hidden, positions=made.positions)
    if made.heads % made.kv_heads:
        raise UserError(
            f"{model}: heads must be a multiple of kv_heads; given: heads={made.heads} and "
            f"kv_heads={made.kv_heads}"
        )
    if made.llama and made.head_width % 2:
        raise UserError(
            f"{model}: rotary positions turn pairs, and width / heads is {made.head_width}, an odd number"
        )
    if made.tied and made.outputs != made.vocabulary:
        raise UserError(
            f"{model}: the last layer cannot be the table of {made.vocabulary} tokens, as an answer has "
            f"{made.outputs} numbers: set tied=false"
        )
    if shape[0] > made.positions:
        raise UserError(
            f"{model} has {made.positions} positions, and a row has {shape[0]} tokens: set positions=null, "
            f"or dataset.length to {made.positions} at most"
        )
    depth = check_rates(model, dropout=dropout, stochastic_depth=stochastic_depth)
    return DecoderNetwork(made, dropout=dropout, stochastic_depth=depth, checkpointing=checkpointing)
