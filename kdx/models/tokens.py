"""What stands between rows of tokens, (B, L) whole numbers without padding, and a language model: the
vocabulary, and by which one a network reads.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from kdx.core.errors import UserError
from kdx.models.adapt import Adapter

BYTES = "bytes"
"""In place of a tokenizer.json: each byte of UTF-8 is a token, its own number."""
_BUCKETS = 64
_KNOWN_BY = 8
"""Bytes of a vocabulary's digest."""


class TokenAdapter(Adapter):
    """vocabulary: how many tokens there are. tokenizer: the whole of a tokenizer.json, of the library
    `tokenizers`, that made the rows; "bytes"; None: not known yet, before any work. padding: the token that
    stands for nothing, None: each is one of the row.
    """

    padding: ClassVar[int | None] = None

    def __init__(self, *, vocabulary: int, tokenizer: str | None):
        self.vocabulary = vocabulary
        self.tokenizer = byte_tokenizer() if tokenizer == BYTES else tokenizer

    def arguments(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary}

    def wrap(self, made: nn.Module, shape: Any) -> nn.Module:
        """The network itself. It keeps by which vocabulary it reads, and takes no weights of another. Raises
        UserError where it has one of its own, and these rows are made by another.
        """
        return guard_vocabulary(made, self.tokenizer)

    def small(self, inputs: Tensor) -> np.ndarray:
        """The share of a row's tokens in each of 64 groups of the vocabulary."""
        tokens = inputs.cpu().long()
        there = torch.ones_like(tokens) if self.padding is None else tokens != self.padding
        groups = torch.zeros(len(tokens), _BUCKETS, dtype=torch.float64)
        groups.scatter_add_(1, tokens % _BUCKETS, there.double())
        return (groups / groups.sum(1, keepdim=True).clamp_min(1)).numpy()

    def displayed(self, inputs: Tensor) -> list[str] | None:
        """The tokens as text. Half a character, where a row begins or ends inside one, is shown as such."""
        if self.tokenizer is None:
            return None
        tokenizer = open_tokenizer(self.tokenizer)
        rows = [[token for token in row if token != self.padding] for row in inputs.tolist()]
        return [tokenizer.decode(row, skip_special_tokens=False) for row in rows]

    def files(self) -> dict[str, str]:
        return {} if self.tokenizer is None else {"tokenizer.json": self.tokenizer}


@functools.cache
def _letters() -> dict[int, str]:
    """The printable letter as which the library writes each byte: of those that are none, from 256 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (byte for byte in range(256) if byte not in plain)
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def byte_tokenizer() -> str:
    """A tokenizer.json in which each byte of a text's UTF-8 is a token and its own number, 256 in all."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = _letters()
    made = Tokenizer(models.BPE(vocab={letter: byte for byte, letter in letters.items()}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    document = json.loads(made.to_str())
    document["model"]["vocab"] = dict(sorted(document["model"]["vocab"].items(), key=lambda pair: pair[1]))
    return json.dumps(document, ensure_ascii=False, indent=2)


def token_bytes(tokenizer: Any) -> dict[int, bytes]:
    """Number -> the bytes that a token stands for. tokenizer: of `open_tokenizer`; one that writes bytes as
    letters (GPT-2's), or words with a mark for a space before and spare bytes as <0x0A> (Llama's)."""
    kind = json.loads(tokenizer.to_str())
    special = {token["content"] for token in kind.get("added_tokens") or ()}
    of_bytes = '"ByteLevel"' in json.dumps([kind.get("decoder"), kind.get("pre_tokenizer")])
    known = {letter: byte for byte, letter in _letters().items()}

    def meant(token: str) -> bytes:
        if token not in special and of_bytes and all(letter in known for letter in token):
            return bytes(known[letter] for letter in token)
        if token not in special and (byte := re.fullmatch(r"<0x([0-9A-F]{2})>", token)):
            return bytes([int(byte[1], 16)])
        return token.encode() if token in special else token.replace("\u2581", " ").encode()

    return {number: meant(token) for token, number in tokenizer.get_vocab(with_added_tokens=True).items()}


@functools.lru_cache(maxsize=4)
def open_tokenizer(text: str) -> Any:
    """A `tokenizers.Tokenizer` of the text of a tokenizer.json. Raises UserError where it is none."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare ones
        raise UserError(f"this is no tokenizer.json of the library tokenizers: {error}") from None


class OwnTokens(ABC):
    """What a network that reads by a vocabulary of its own says of that."""

    remarks: Sequence[str] = ()
    """What there is to say of how it meets that of the rows, a sentence each: known once it was checked."""

    @abstractmethod
    def check_tokens(self, tokenizer: str) -> None:
        """Raises UserError where rows that are made by it are not for this network. tokenizer: the text of a
        tokenizer.json.
        """


def guard_vocabulary(network: nn.Module, tokenizer: str | None) -> nn.Module:
    """The network, which from now on keeps by which vocabulary it reads, and takes no weights of another.
    tokenizer: the whole of the tokenizer.json that makes its rows, None: not known. Raises UserError where it
    has a vocabulary of its own, and that is another."""
    if isinstance(network, OwnTokens) and tokenizer is not None:
        network.check_tokens(tokenizer)
    digest = digest_of_vocabulary(tokenizer)
    network.register_buffer("vocabulary_digest", digest)
    network.register_load_state_dict_pre_hook(functools.partial(_same_vocabulary, digest.clone()))
    return network


def digest_of_vocabulary(tokenizer: str | None) -> Tensor:
    """(8,) uint8, by which a vocabulary is known; zeros where it is not known."""
    found = bytes(_KNOWN_BY) if tokenizer is None else hashlib.sha256(tokenizer.encode()).digest()
    return torch.tensor(list(found[:_KNOWN_BY]), dtype=torch.uint8)


def _same_vocabulary(
    own: Tensor, network: nn.Module, state: Mapping[str, Any], prefix: str, *rest: Any
) -> None:
    """Before weights are loaded: a token's number means one word here and another in another vocabulary."""
    given = state.get(f"{prefix}vocabulary_digest")
    if isinstance(given, Tensor) and given.any() and own.any() and not torch.equal(given.cpu(), own):
        raise UserError(
            "these weights read texts by another vocabulary, in which the numbers stand for other words: "
            "train anew, or give both runs one vocabulary with dataset.tokenizer=FILE, the tokenizer.json "
            "that kdx export lays beside a network"
        )
