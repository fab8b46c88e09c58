"""Texts as tokens: a vocabulary made of the texts that training may see, or one of a file. All of it by the
library `tokenizers`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core.errors import UserError

WORDS_OR_PIECES = ("words", "bpe")
_PADDING, _UNKNOWN = "[PAD]", "[UNK]"
_BLOCK = 4096
"""Texts that are encoded together."""


@dataclass(frozen=True)
class Tokens:
    """How texts become tokens.

    kind: "words" (letters and digits together, or other signs together), or "bpe" (byte-pair encoding: bytes,
    and frequent runs of them, so that nothing is unknown). size: tokens in the vocabulary at most, padding
    and the unknown one among them. min_frequency: how often a word, or a pair that is merged, must stand in
    the texts: from 2 on training meets the unknown token too. lower: whether capitals are made small. length:
    tokens of a row. file: a tokenizer.json in place of all but the length, None: made of the texts.
    """

    kind: str
    size: int
    min_frequency: int
    lower: bool
    length: int
    file: Path | None = None

    def check_file(self) -> None:
        """Raises UserError where the file is not there, or is no tokenizer."""
        self.of_file()

    def of_file(self) -> str | None:
        """The text of a tokenizer.json as rows are made by it; None without a file."""
        return None if self.file is None else read_tokenizer(self.file, self.length)

    def of(self, texts: Iterable[str], special: Sequence[str] = ()) -> str:
        """The text of a tokenizer.json, its vocabulary of these texts. special: further tokens of its own,
        which no text has."""
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

        _alone()
        steps = [normalizers.NFKC(), *([normalizers.Lowercase()] if self.lower else [])]
        settings: dict[str, Any] = {
            "vocab_size": self.size,
            "min_frequency": self.min_frequency,
            "special_tokens": [_PADDING, _UNKNOWN, *special],
            "show_progress": False,
        }
        trainer: Any
        if self.kind == "words":
            made = Tokenizer(models.WordLevel(unk_token=_UNKNOWN))
            made.pre_tokenizer = pre_tokenizers.Whitespace()
            trainer = trainers.WordLevelTrainer(**settings)
        else:
            # of bytes: with a prefix for inner pieces the library numbers them in another order each time
            made = Tokenizer(models.BPE())
            made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
            made.decoder = decoders.ByteLevel()
            alphabet = pre_tokenizers.ByteLevel.alphabet()
            trainer = trainers.BpeTrainer(initial_alphabet=alphabet, **settings)
        made.normalizer = normalizers.Sequence(steps)
        made.train_from_iterator(texts, trainer)
        return _for_rows(made, self.length)


def read_tokenizer(path: Path, length: int) -> str:
    """The text of a tokenizer.json that makes rows of `length` tokens. Raises UserError where
    its rows could not be known from padding.
    """
    from kdx.models.tokens import open_tokenizer

    text = read_steady_tokenizer(path, "a row")
    made = type(open_tokenizer(text)).from_str(text)  # one of its own, as it is altered
    first = made.id_to_token(0)
    special = {found.content for found in made.get_added_tokens_decoder().values() if found.special}
    if first not in special:
        raise UserError(
            f"dataset.tokenizer: the token 0 of '{path}' is {first!r}, and kdx fills rows up with 0: take a "
            "tokenizer whose first token is padding or another special one"
        )
    made.post_processor = None
    return _for_rows(made, length, padding=first)


def read_steady_tokenizer(path: Path, what: str) -> str:
    """The text of a tokenizer.json. what: that would be another each time where merges are left out at
    random, in a sentence. Raises UserError where it is none, or does that.
    """
    from kdx.models.tokens import open_tokenizer

    try:
        text = path.read_text(encoding="utf-8")
        described = json.loads(text)
    except (OSError, ValueError) as error:
        raise UserError(f"dataset.tokenizer: '{path}' cannot be read as a tokenizer.json: {error}") from None
    model = described.get("model") if isinstance(described, dict) else None
    if not isinstance(model, dict):
        raise UserError(f"dataset.tokenizer: '{path}' is no tokenizer.json of the library tokenizers")
    if model.get("dropout"):
        raise UserError(
            f"dataset.tokenizer: '{path}' leaves out merges at random (dropout {model['dropout']}), so that "
            f'{what} would be another each time: set "dropout" to null in it'
        )
    open_tokenizer(text)
    return text


def _for_rows(tokenizer: Any, length: int, padding: str = _PADDING) -> str:
    """As text, cutting and filling up to rows of `length`, so that who opens it needs to know nothing."""
    tokenizer.enable_truncation(max_length=length)
    tokenizer.enable_padding(length=length, pad_id=0, pad_token=padding)
    return str(tokenizer.to_str())


def encode(tokenizer: str, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
    """(N texts as (N, length) int32, 0 behind the last token; (N,) int64 how many tokens each has uncut)"""
    return Encoder(tokenizer, length).rows(texts)


class Encoder:
    """Makes rows of `length` tokens. tokenizer: the text of a tokenizer.json."""

    def __init__(self, tokenizer: str, length: int):
        from tokenizers import Tokenizer

        _alone()
        self._opened, self._length = Tokenizer.from_str(tokenizer), length
        self._opened.no_padding()
        self._opened.no_truncation()

    def rows(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """As `encode`."""
        length = self._length
        rows, lengths = np.zeros((len(texts), length), np.int32), np.zeros(len(texts), np.int64)
        for start in range(0, len(texts), _BLOCK):
            found = self._opened.encode_batch(list(texts[start : start + _BLOCK]), add_special_tokens=False)
            for row, one in enumerate(found, start):
                ids = one.ids
                lengths[row] = len(ids)
                rows[row, : min(len(ids), length)] = ids[:length]
        return rows, lengths


def read_tokens(tokenizer: str, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """Of each text its tokens, uncut, and from which letter of it to which each reaches, the end
    exclusive."""
    from tokenizers import Tokenizer

    _alone()
    opened = Tokenizer.from_str(tokenizer)
    opened.no_padding()
    opened.no_truncation()
    found: list[tuple[list[int], list[tuple[int, int]]]] = []
    for start in range(0, len(texts), _BLOCK):
        some = opened.encode_batch(list(texts[start : start + _BLOCK]), add_special_tokens=False)
        found += [(one.ids, one.offsets) for one in some]
    return found


def separator_of(tokenizer: str, called: str) -> int | None:
    """The number of the token that stands between two texts: called so, or </s>; None: there is none."""
    from kdx.models.tokens import open_tokenizer

    opened = open_tokenizer(tokenizer)
    numbers = (opened.token_to_id(name) for name in (called, "</s>"))
    return next((number for number in numbers if number is not None), None)


def vocabulary_of(tokenizer: str) -> int:
    """How many tokens there are: one more than the largest number."""
    from kdx.models.tokens import open_tokenizer

    return 1 + max(open_tokenizer(tokenizer).get_vocab(with_added_tokens=True).values())


def unknown_in(tokenizer: str) -> int | None:
    """The number of the token that stands for whatever is not in the vocabulary; None: there is none."""
    from kdx.models.tokens import open_tokenizer

    model = json.loads(tokenizer)["model"]
    name = model.get("unk_token")
    if isinstance(model.get("unk_id"), int):  # Unigram
        return int(model["unk_id"])
    return None if name is None else open_tokenizer(tokenizer).token_to_id(name)


def _alone() -> None:
    """In this thread: the library would take all cores, and be quiet about it but where a process forks."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
