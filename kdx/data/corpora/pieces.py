"""Text as tokens of a vocabulary, and how many bytes each stands for. By the library `tokenizers`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdx.core.errors import UserError

END = "<|end|>"
"""Stands between two documents in a vocabulary that kdx makes; number 0."""
_BLOCK = 256
"""Documents that are encoded together."""


@dataclass(frozen=True)
class Tokenized:
    """tokens: (n,) int32; sizes: (n,) int32, the bytes of the text that each stands for, which add up to
    all of them."""

    tokens: np.ndarray
    sizes: np.ndarray


def byte_tokens(text: bytes) -> Tokenized:
    """Each byte is a token."""
    tokens = np.frombuffer(text, np.uint8).astype(np.int32)
    return Tokenized(tokens, np.broadcast_to(np.int32(1), len(tokens)))  # which takes no memory


def train_pieces(texts: Sequence[str], size: int, min_frequency: int) -> str:
    """The text of a tokenizer.json: byte-pair encoding of at most `size` tokens, all bytes and END among
    them, so that nothing is unknown and every text comes back as it was.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    _alone()
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return str(made.to_str())


def end_of(tokenizer: str, named: str | None) -> int:
    """The number of the token that stands between documents. named: by the user, None: one of those that
    usually do. Raises UserError where there is none.
    """
    from kdx.models.tokens import open_tokenizer
    from kdx.models.vocabulary import USUAL_ENDS

    opened = open_tokenizer(tokenizer)
    known = [opened.token_to_id(token) for token in ((named,) if named is not None else USUAL_ENDS)]
    there = next((number for number in known if number is not None), None)
    if there is None:
        raise UserError(
            f"dataset.end='{named}' is no token of the vocabulary"
            if named is not None
            else f"none of {', '.join(USUAL_ENDS)} is a token of the vocabulary in dataset.tokenizer: name "
            "the one that stands between documents with dataset.end=TOKEN"
        )
    return int(there)


def piece_tokens(tokenizer: str, texts: Sequence[str], end: int) -> Tokenized:
    """The documents one after the other, `end` between two, where it stands for the one byte there. What a
    tokenizer passes over, such as blanks, is counted with the token behind it.
    """
    from tokenizers import Tokenizer

    _alone()
    opened = Tokenizer.from_str(tokenizer)
    opened.no_padding()
    opened.no_truncation()
    opened.encode_special_tokens = True  # what stands in a text is text, and never the end of one
    tokens: list[np.ndarray] = []
    sizes: list[np.ndarray] = []
    for start in range(0, len(texts), _BLOCK):
        some = list(texts[start : start + _BLOCK])
        for text, found in zip(some, opened.encode_batch(some, add_special_tokens=False), strict=True):
            if tokens:
                tokens.append(np.array([end], np.int32))
                sizes.append(np.array([1], np.int32))
            tokens.append(np.array(found.ids, np.int32))
            sizes.append(_sizes(text, found.offsets))
            if not found.ids and len(sizes) > 1:
                sizes[-2][-1] += len(text.encode())
    return Tokenized(np.concatenate(tokens), np.concatenate(sizes))


def _sizes(text: str, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """(n,) bytes of each token: those between the furthest letter of the tokens before it and its own; the
    last has all that are left.
    """
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    each = 1 + (points > 0x7F).astype(np.int64) + (points > 0x7FF) + (points > 0xFFFF)
    until = np.concatenate([[0], np.cumsum(each)])
    if not offsets:
        return np.empty(0, np.int32)
    ends = np.maximum.accumulate(np.array(offsets, np.int64)[:, 1])
    ends[-1] = len(points)
    return np.diff(until[ends], prepend=0).astype(np.int32)


def vocabulary_size(tokenizer: str) -> int:
    """One more than the largest number of a token."""
    from kdx.models.tokens import open_tokenizer

    found: dict[str, Any] = open_tokenizer(tokenizer).get_vocab(with_added_tokens=True)
    return 1 + max(found.values())


def _alone() -> None:
    """In this thread: the library would take all cores, and be quiet about it but where a process forks."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
