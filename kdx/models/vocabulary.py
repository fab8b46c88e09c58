"""Text as bytes, and the tokens of a tokenizer.json that stand for them: what is the same to two networks
whose vocabularies differ.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence

from kdx.models.tokens import open_tokenizer, token_bytes

USUAL_ENDS = ("<|end|>", "<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[SEP]")
"""Tokens that usually stand between two documents; the first is that of a vocabulary that kdx makes."""
_NOT_KNOWN = "\ufffd".encode()
_RUNS = re.compile("[\udc80-\udcff]+|[^\udc80-\udcff]+")
"""Letters, and bytes that make none: Python writes these as lone surrogates."""
_BYTE = 0xDC00


class Vocabulary:
    """tokenizer: the text of a tokenizer.json. A text is documents, each of bytes, and a special token of the
    vocabulary stands between two of them.

    pieces: number -> the bytes that a token stands for; of the token for what is not known U+FFFD. size: one
    more than the largest number. end: what is laid between two documents, None: no token means that; where
    no usual one is there, and there is no other special token alone, the byte 0, as of kdx's own bytes.
    begin: what a text begins with where one is read from its beginning, None: there is no such token.
    """

    def __init__(self, tokenizer: str):
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._opened = type(open_tokenizer(tokenizer)).from_str(tokenizer)
        self._opened.no_padding()
        self._opened.no_truncation()
        self._opened.encode_special_tokens = True  # what stands in a text is text
        self.pieces = token_bytes(self._opened)
        self.size = 1 + max(self.pieces)
        document = json.loads(tokenizer)
        special = {
            token["id"]: token["content"] for token in document.get("added_tokens") or () if token["special"]
        }
        unknown = document["model"].get("unk_token")
        special = {number: word for number, word in special.items() if word != unknown}
        if unknown is not None and (number := self._opened.token_to_id(unknown)) is not None:
            self.pieces[number] = _NOT_KNOWN
        self._single = {
            text[0]: number
            for number, text in self.pieces.items()
            if len(text) == 1 and number not in special
        }
        self.end = self._found_end(special)
        self._between = {*special, *(() if self.end is None else (self.end,))}
        first = self._opened.encode("").ids[:1]
        self.begin: int | None = first[0] if first else self.end
        self.begins = bool(first)
        """Whether its own form lays `begin` before every text."""
        self._spaced = b"".join(self.pieces[one] for one in self._ids("a")) == b" a"

    def _found_end(self, special: dict[int, str]) -> int | None:
        named = [self._opened.token_to_id(word) for word in USUAL_ENDS]
        if usual := [number for number in named if number is not None]:
            return int(usual[0])
        return next(iter(special)) if len(special) == 1 else self._single.get(0)

    def documents(self, tokens: Iterable[int]) -> list[bytes]:
        """What tokens stand for, cut where one of those between documents stands: one document more than
        there are of these, some of them maybe empty."""
        found = [bytearray()]
        for token in tokens:
            if token in self._between:
                found.append(bytearray())
            else:
                found[-1] += self.pieces.get(token, b"")
        return [bytes(one) for one in found]

    def sizes(self, tokens: Iterable[int]) -> list[int]:
        """How many bytes each stands for; what stands between two documents for one."""
        return [1 if one in self._between else len(self.pieces.get(one, b"")) for one in tokens]

    def tokens(self, text: bytes) -> list[int]:
        """Of one document. Bytes that make no letter are tokens of single bytes, and U+FFFD where the
        vocabulary has none; what its tokenizer passes over, or does not know, is as in any text."""
        found: list[int] = []
        whole = text.decode("utf-8", "surrogateescape")
        if self._spaced and whole.startswith(" "):
            whole = whole[1:]  # it lays one before a text by itself
        for run in _RUNS.findall(whole):
            bare = "\udc80" <= run[0] <= "\udcff"
            single = [self._single.get(ord(letter) - _BYTE) for letter in run] if bare else [None]
            if None in single:
                found += self._ids(run.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
            else:
                found += [one for one in single if one is not None]
        return found

    def laid(self, documents: Sequence[bytes]) -> list[int]:
        """Documents one after the other, `end` between two."""
        found: list[int] = []
        for number, text in enumerate(documents):
            if number and self.end is not None:
                found.append(self.end)
            found += self.tokens(text)
        return found

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self._opened.encode(text, add_special_tokens=False).ids
        return found
