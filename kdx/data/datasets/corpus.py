"""Text to learn language from: files, a folder of them, or the help that ships inside Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core import checks, snapshot
from kdx.core.errors import UserError
from kdx.data.corpora.cut import cuts, whole_letters
from kdx.data.corpora.documents import BETWEEN, Documents, corpus_files, read_documents
from kdx.data.corpora.pieces import (
    Tokenized,
    byte_tokens,
    end_of,
    piece_tokens,
    train_pieces,
    vocabulary_size,
)
from kdx.data.corpora.windows import Corpus, WindowNames, first_bytes, windows_of
from kdx.data.loading import check_int, check_path
from kdx.data.raw import Description, Note
from kdx.data.text.tokens import read_steady_tokenizer

_BYTES = 256
_LEAST = _BYTES + 2
"""Tokens of a vocabulary of byte pairs: all bytes, the end of a document, and one pair."""


class CorpusData:
    """Documents in order of name, packed one after the other, and cut into windows of `length` tokens.

    root: a file or a folder, null: what Python ships. endings: of the files that are read in a folder.
    validation_share, test_share: the last shares of the bytes. tokens: "bytes" or "bpe"; vocabulary,
    min_frequency: of a vocabulary that is made of the part to train with; tokenizer: a tokenizer.json in its
    place, end: its token between documents. on_error: of bytes that are no UTF-8, where tokens are not bytes,
    "stop" or "replace".
    """

    paths = ("root", "tokenizer")

    def __init__(
        self,
        *,
        root: str | None,
        endings: Any,
        length: int,
        tokens: str,
        vocabulary: int,
        min_frequency: int,
        tokenizer: str | None,
        end: str | None,
        validation_share: float,
        test_share: float,
        on_error: str,
    ):
        self._root = None if root is None else check_path("root", root)
        self._endings = _check_endings(endings)
        self._length = check_int("length", length, 1, 1_000_000)
        self._tokens = checks.choice("dataset.tokens", tokens, ("bytes", "bpe"))
        self._vocabulary = check_int("vocabulary", vocabulary, _LEAST, 1_000_000)
        self._min_frequency = check_int("min_frequency", min_frequency, 1, 1_000_000)
        self._tokenizer = None if tokenizer is None else check_path("tokenizer", tokenizer)
        self._end = end if end is None else str(end)
        self._shares = tuple(
            checks.number(f"dataset.{name}", share, low=0, high=1, open_high=True)
            for name, share in (("validation_share", validation_share), ("test_share", test_share))
        )
        self._on_error = checks.choice("dataset.on_error", on_error, ("stop", "replace"))
        if self._tokenizer is not None and self._tokens == "bytes":
            raise UserError("dataset.tokenizer is of no use where tokens are bytes: set dataset.tokens=bpe")

    def files(self) -> dict[str, list[tuple[str, Path]]]:
        found = {"train": corpus_files(self._root, self._endings)}
        return found | ({"tokenizer": [("tokenizer.json", self._tokenizer)]} if self._tokenizer else {})

    def fetch(self) -> None:
        corpus_files(self._root, self._endings)
        if self._tokenizer is not None:
            read_steady_tokenizer(self._tokenizer, "a text")

    def describe(self) -> Description:
        key = ("corpus", *sorted((name, str(value)) for name, value in vars(self).items()))
        return snapshot.once(key, lambda: self.load().described())

    def load(self, *, workers: int = 0) -> Corpus:
        documents = read_documents(self._root, self._endings)
        if self._tokens == "bpe" and self._on_error == "stop":
            _check_letters(documents)
        text = documents.text
        validation, test = (
            whole_letters(text, cut) for cut in cuts(len(text), documents.starts, *self._shares)
        )
        places = {"train": (0, validation), "validation": (validation, test), "test": (test, len(text))}
        pieces = {name: text[start:stop] for name, (start, stop) in places.items() if start < stop}
        tokenizer, found, notes = self._as_tokens(pieces)
        for name, one in found.items():
            if len(one.tokens) <= self._length:
                raise UserError(
                    f"the {name} part of the corpus has {len(one.tokens):,} tokens, and a window of "
                    f"dataset.length={self._length} takes {self._length + 1:,}: give it more text, shorter "
                    "windows, or another share (dataset.validation_share, dataset.test_share; 0: no part)"
                )
        vocabulary = _BYTES if tokenizer is None else vocabulary_size(tokenizer)
        return Corpus(
            {name: windows_of(one, self._length) for name, one in found.items()},
            vocabulary,
            tokenizer,
            0 if tokenizer is None else end_of(tokenizer, self._end),
            {name: len(piece) for name, piece in pieces.items()},
            {name: self._named(one, places[name][0], documents) for name, one in found.items()},
            (*documents.notes, *notes),
        )

    def _named(self, found: Tokenized, start: int, documents: Documents) -> WindowNames:
        starts = np.array(documents.starts, np.int64)
        return WindowNames(first_bytes(found, self._length, start), starts, documents.names)

    def _as_tokens(
        self, pieces: dict[str, bytes]
    ) -> tuple[str | None, dict[str, Tokenized], tuple[Note, ...]]:
        """(the tokenizer, None: bytes; the tokens of each part; what there is to say)"""
        if self._tokens == "bytes":
            return None, {name: byte_tokens(piece) for name, piece in pieces.items()}, ()
        texts, odd = {}, 0
        for name, piece in pieces.items():
            documents = piece.split(BETWEEN)
            texts[name] = [one.decode("utf-8", "replace") for one in documents]
            odd += sum(one.encode() != bare for one, bare in zip(texts[name], documents, strict=True))
        tokenizer = (
            train_pieces(texts["train"], self._vocabulary, self._min_frequency)
            if self._tokenizer is None
            else read_steady_tokenizer(self._tokenizer, "a text")
        )
        end = end_of(tokenizer, self._end)
        notes: tuple[Note, ...] = ()
        if odd:
            notes = ((f"bytes that are no UTF-8 were replaced by U+FFFD in {odd:,} documents", "warning"),)
        return tokenizer, {name: piece_tokens(tokenizer, some, end) for name, some in texts.items()}, notes


def _check_letters(documents: Documents) -> None:
    """Whether each document is UTF-8. Raises UserError."""
    for name, text in zip(documents.names, documents.text.split(BETWEEN), strict=True):
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"the document '{name}' is not UTF-8 (at its byte {error.start:,}: "
                f"0x{text[error.start]:02x}), which dataset.tokens=bpe reads: set dataset.on_error=replace, "
                "or dataset.tokens=bytes, which takes any bytes"
            ) from None


def _check_endings(endings: Any) -> tuple[str, ...]:
    """Each with its dot, in small letters."""
    good: Sequence[Any] = endings if isinstance(endings, list | tuple) else ()
    if not good or not all(isinstance(one, str) and one.startswith(".") and len(one) > 1 for one in good):
        raise UserError(
            f"dataset.endings must be a list of endings of files, such as [.txt,.md]; given: "
            f"{checks.shown(endings)}"
        )
    return tuple(one.lower() for one in good)
