"""What stands between windows of tokens, (B, L) whole numbers, and a network that reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from kdx.models.adapt import Adapter
from kdx.models.text import keep_vocabulary, open_tokenizer

_OF_BYTES = "bytes"
"""What weights that read bytes are known by, in place of a tokenizer."""
_SIGNS = {"\0": "\u2400", "\n": "\u21b5", "\t": "\u2192", "\r": "\u240d"}
"""What has no shape of its own, as people are shown it in a line."""


class TokenAdapter(Adapter):
    """vocabulary: how many tokens there are. tokenizer: the whole of a tokenizer.json, of the library
    `tokenizers`; None: tokens are bytes. end: the token that stands between two documents.
    """

    def __init__(self, *, vocabulary: int, tokenizer: str | None, end: int):
        self.vocabulary, self.tokenizer, self.end = vocabulary, tokenizer, end

    def arguments(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary}

    def wrap(self, made: nn.Module, shape: Any) -> nn.Module:
        """The network itself. It keeps by which vocabulary it reads, and takes no weights of another."""
        return keep_vocabulary(made, self.tokenizer or _OF_BYTES)

    def small(self, inputs: Tensor) -> np.ndarray | None:
        return None

    def displayed(self, inputs: Tensor) -> list[str]:
        """The text on one line, with signs for the ends of lines and of documents. Bytes that are no whole
        letter, at either end of a window, are shown as such.
        """
        rows = [[int(token) for token in row] for row in inputs.tolist()]
        if self.tokenizer is None:
            texts = [bytes(row).decode("utf-8", "backslashreplace") for row in rows]
        else:
            opened = open_tokenizer(self.tokenizer)
            texts = [opened.decode(row, skip_special_tokens=False) for row in rows]
        return ["".join(_SIGNS.get(letter, letter) for letter in text) for text in texts]

    def files(self) -> dict[str, str]:
        return {} if self.tokenizer is None else {"tokenizer.json": self.tokenizer}
