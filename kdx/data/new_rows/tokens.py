"""New documents, as windows of the tokens that a network learned with, and what follows each token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.data.corpora.documents import corpus_files
from kdx.data.corpora.pieces import Tokenized, byte_tokens, piece_tokens
from kdx.data.corpora.windows import first_bytes, windows_of
from kdx.data.new_rows.rows import FILE_COLUMN, NewRows, RowBlock, check_there

_ENDINGS = (".txt",)
_OF_BYTES = "bytes"


class NewDocuments(NewRows):
    """Windows of a file, or of each file in a folder by itself; the last of a document is filled up, and what
    it is filled with does not count. The first token of a document is no answer to anything, and each other
    one is of the tokens before it in its window.

    tokenizer: "bytes", or the text of a tokenizer.json. length: tokens of a window. how: `endings` of the
    files that are read in a folder.
    """

    noun = "window"

    def __init__(self, place: Path, tokenizer: str, length: int, how: Mapping[str, Any]):
        check_there(place)
        self.unread: list[tuple[str, str]] = []
        self._length, self._tokenizer = length, tokenizer
        self._parts: list[tuple[list[str], np.ndarray, dict[str, np.ndarray]]] = []
        files = corpus_files(place, how.get("endings") or _ENDINGS)
        for name, path in files:
            try:
                self._take(name, path.read_bytes())
            except UnicodeDecodeError as error:
                self.unread.append((name, f"it is not UTF-8 (at its byte {error.start:,})"))
            except OSError as error:
                self.unread.append((name, error.strerror or str(error)))
        if not self._parts:
            name, why = self.unread[0]
            raise UserError(
                f"not one of {len(files):,} documents could be read; the first is '{name}': {why}"
            )
        self.count = sum(len(names) for names, *_ in self._parts)

    def _take(self, name: str, text: bytes) -> None:
        found = self._tokens(text)
        if len(found.tokens) < 2:
            self.unread.append((name, "it has no second token, and nothing follows"))
            return
        left = -(len(found.tokens) - 1) % self._length
        filled = Tokenized(
            np.concatenate([found.tokens, np.zeros(left, np.int32)]),
            np.concatenate([found.sizes, np.zeros(left, np.int32)]),
        )
        inputs, truth = windows_of(filled, self._length)
        truth = {leaf: array.copy() for leaf, array in truth.items()}
        if left:
            truth["token"][-1, -left:] = -1
        places = first_bytes(filled, self._length, 0).tolist()
        self._parts.append(([f"{name}, byte {place:,}" for place in places], inputs, truth))

    def _tokens(self, text: bytes) -> Tokenized:
        if self._tokenizer == _OF_BYTES:
            return byte_tokens(text)
        return piece_tokens(self._tokenizer, [text.decode("utf-8")], 0)

    def blocks(self, size: int) -> Iterator[RowBlock]:
        for names, inputs, truth in self._parts:
            for start in range(0, len(names), size):
                some = {leaf: array[start : start + size] for leaf, array in truth.items()}
                yield RowBlock(_known(names[start : start + size], some), inputs[start : start + size], some)


def _known(names: Sequence[str], truth: Mapping[str, np.ndarray]) -> dict[str, Any]:
    counts = truth["token"] >= 0
    return {
        FILE_COLUMN: names,
        "truth:tokens": counts.sum(1),
        "truth:bytes": (truth["bytes"] * counts).sum(1),
    }
