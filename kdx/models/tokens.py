"""What stands between rows of tokens, (B, L) whole numbers without padding, and a language model: the
vocabulary, and by which one a network reads.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

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
    `tokenizers`, that made the rows; "bytes"; None: not known yet, before any work.
    """

    def __init__(self, *, vocabulary: int, tokenizer: str | None):
        self.vocabulary = vocabulary
        self.tokenizer = byte_tokenizer() if tokenizer == BYTES else tokenizer

    def arguments(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary}

    def wrap(self, made: nn.Module, shape: Any) -> nn.Module:
        """The network itself. It keeps by which vocabulary it reads, and takes no weights of another."""
        return guard_vocabulary(made, self.tokenizer)

    def small(self, inputs: Tensor) -> np.ndarray:
        """The share of a row's tokens in each of 64 groups of the vocabulary."""
        tokens = inputs.cpu().long()
        groups = torch.zeros(len(tokens), _BUCKETS, dtype=torch.float64)
        groups.scatter_add_(1, tokens % _BUCKETS, torch.ones_like(tokens, dtype=torch.float64))
        return (groups / max(tokens.shape[1], 1)).numpy()

    def displayed(self, inputs: Tensor) -> list[str] | None:
        """The tokens as text. Half a character, where a row begins or ends inside one, is shown as such."""
        if self.tokenizer is None:
            return None
        tokenizer = open_tokenizer(self.tokenizer)
        return [tokenizer.decode(row, skip_special_tokens=False) for row in inputs.tolist()]

    def files(self) -> dict[str, str]:
        return {} if self.tokenizer is None else {"tokenizer.json": self.tokenizer}


def byte_tokenizer() -> str:
    """A tokenizer.json in which each byte of a text's UTF-8 is a token and its own number, 256 in all."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    # the library writes each byte as a printable letter: of those that are none, the letters from 256 on
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (byte for byte in range(256) if byte not in plain)
    letters = {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    made = Tokenizer(models.BPE(vocab={letter: byte for byte, letter in letters.items()}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    document = json.loads(made.to_str())
    document["model"]["vocab"] = dict(sorted(document["model"]["vocab"].items(), key=lambda pair: pair[1]))
    return json.dumps(document, ensure_ascii=False, indent=2)


@functools.lru_cache(maxsize=4)
def open_tokenizer(text: str) -> Any:
    """A `tokenizers.Tokenizer` of the text of a tokenizer.json. Raises UserError where it is none."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare ones
        raise UserError(f"this is no tokenizer.json of the library tokenizers: {error}") from None


def guard_vocabulary(network: nn.Module, tokenizer: str | None) -> nn.Module:
    """The network, which from now on keeps by which vocabulary it reads, and takes no weights of another.
    tokenizer: the whole of a tokenizer.json, None: not known."""
    found = [0] * _KNOWN_BY if tokenizer is None else hashlib.sha256(tokenizer.encode()).digest()[:_KNOWN_BY]
    digest = torch.tensor(list(found), dtype=torch.uint8)
    network.register_buffer("vocabulary_digest", digest)
    network.register_load_state_dict_pre_hook(functools.partial(_same_vocabulary, digest.clone()))
    return network


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
