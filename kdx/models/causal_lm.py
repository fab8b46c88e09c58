"""A pretrained causal language model from a folder of Hugging Face's form: GPT-2's or Llama's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor

from kdx.core.errors import UserError
from kdx.core.model_folder import model_folder, read_settings
from kdx.models import pretrained, reads
from kdx.models.decoder import TOKENS_READ, DecoderNetwork
from kdx.models.decoder_layers import DecoderShape
from kdx.models.layers import check_rates
from kdx.models.parts import WithParts
from kdx.models.save_pretrained import (
    CAUSAL_CONFIG,
    CAUSAL_TOKENIZER,
    CAUSAL_WEIGHTS,
    fill_from,
    read_shape,
)
from kdx.models.tokens import OwnTokens, open_tokenizer, token_bytes

CAUSAL_FILES = (CAUSAL_CONFIG, CAUSAL_WEIGHTS, CAUSAL_TOKENIZER)


@reads(TOKENS_READ)
class CausalLM(DecoderNetwork, OwnTokens):
    """path: a folder of config.json, model.safetensors and tokenizer.json, as save_pretrained writes it. Its
    weights are those of the folder.

    It may know more tokens than the data set has, where the data set's are its first ones: a table is often
    rounded up. Answers are then those of the data set's tokens.
    """

    folders: ClassVar[tuple[str, ...]] = ("path",)
    """Read from the class's file where torch is not wanted (kdx.config.described): keys that name a folder,
    known by its content."""
    measured_first: ClassVar[bool] = True
    """Read likewise (kdx.pipeline.stages.pretrain): it is measured on validation before it answers anything,
    as it may have learned from rows of another form."""
    ready: ClassVar[bool] = True
    """Read likewise (kdx.config.teachers): it is asked as it is, unless training is asked for."""

    def __init__(
        self,
        *,
        shape: Sequence[int],
        outputs: int,
        vocabulary: int,
        path: str,
        dropout: float,
        stochastic_depth: float | str,
        checkpointing: bool,
    ):
        WithParts.__init__(self)
        depth = check_rates("causal_lm", dropout=dropout, stochastic_depth=stochastic_depth)
        self._rates = {"dropout": dropout, "stochastic_depth": depth, "checkpointing": checkpointing}
        self._outputs = outputs
        self._tokens: dict[int, bytes] | None = None
        self.described: Tensor
        try:
            folder = model_folder("teacher.path", path, CAUSAL_FILES)
        except UserError:
            if pretrained.wanted():
                raise
            return  # a state that says what it is of is loaded next
        made = read_shape(read_settings(folder / CAUSAL_CONFIG), f"'{folder / CAUSAL_CONFIG}'")
        self._read_tokenizer((folder / CAUSAL_TOKENIZER).read_text(encoding="utf-8"))
        assert self._tokens is not None
        check_own_tokens(path, made, len(self._tokens))
        self._check_rows(path, made, vocabulary, shape[0])
        self._build_described(made)
        if pretrained.wanted():
            fill_from(self, folder)

    def _read_tokenizer(self, text: str) -> None:
        """text: of the folder's tokenizer.json."""
        self._tokens = token_bytes(open_tokenizer(text))

    def _check_rows(self, path: str, made: DecoderShape, vocabulary: int, length: int) -> None:
        """vocabulary, length: of the data. Raises UserError where it cannot read such rows."""
        _check_table(path, made, vocabulary, length)

    def _build_described(self, made: DecoderShape) -> None:
        """Builds it, and keeps in its state of what, so that the folder is needed to begin only."""
        text = json.dumps(asdict(made), sort_keys=True).encode()
        self.register_buffer("described", torch.frombuffer(bytearray(text), dtype=torch.uint8))
        self.build(made, **self._rates)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        given = state.get(f"{prefix}described")
        own = dict(self.named_buffers(recurse=False)).get("described")
        if isinstance(given, Tensor) and (own is None or not torch.equal(own.cpu(), given.cpu())):
            self._build_described(DecoderShape(**json.loads(bytes(given.cpu().tolist()))))
        super()._load_from_state_dict(state, prefix, *rest)

    @property
    def head_weight(self) -> Tensor:
        """Of the data set's tokens."""
        return super().head_weight[: self._outputs]

    def check_tokens(self, tokenizer: str) -> None:
        """Each number that the data can hold means the same bytes here and there."""
        if self._tokens is None:
            return
        given = token_bytes(open_tokenizer(tokenizer))
        wrong = sorted(number for number, text in given.items() if self._tokens.get(number) != text)
        if wrong:
            number = wrong[0]
            raise UserError(
                f"the teacher reads by its own tokenizer.json, and {len(wrong):,} of the data set's "
                f"{len(given):,} tokens are others there: {number} is {_quoted(given[number])} in the data "
                f"and {_quoted(self._tokens.get(number))} to the teacher. Set dataset.tokens=bpe and "
                "dataset.tokenizer to the teacher's tokenizer.json; choose a teacher that has these tokens, "
                "or train one on this data set's tokens, such as teacher=gpt_small; or let it write text, "
                "which needs no common tokens (teacher=causal_lm_text pseudo_label.format=text)"
            )
        more = self.shape.vocabulary - self._outputs
        if more > 0:
            self.remarks = [
                f"the teacher knows {self.shape.vocabulary:,} tokens, of which the data set's "
                f"{self._outputs:,} are the first, with the same bytes each: its answers are cut to these, "
                f"and what it gives to the other {more:,} is left out"
            ]


def check_own_tokens(path: str, made: DecoderShape, tokens: int) -> None:
    """tokens: of the folder's tokeniser. Raises UserError where its model knows fewer."""
    if tokens > made.vocabulary:
        raise UserError(
            f"the tokeniser of '{path}' does not match its model: tokenizer.json has {tokens:,} tokens, and "
            f"config.json says vocab_size={made.vocabulary:,}: take both from one model"
        )


def _check_table(path: str, made: DecoderShape, vocabulary: int, length: int) -> None:
    rows, positions = made.vocabulary, made.positions
    if vocabulary > rows:
        raise UserError(
            f"the model in '{path}' knows {rows:,} tokens, and the data set has {vocabulary:,}: set "
            f"dataset.tokenizer={path}/tokenizer.json, which makes rows of the model's own tokens"
        )
    if length > positions:
        raise UserError(
            f"the model in '{path}' has {positions} positions, and a row has {length} tokens: set "
            f"dataset.length={positions} at most"
        )


def _quoted(text: bytes | None) -> str:
    return "none" if text is None else repr(text)[1:]
