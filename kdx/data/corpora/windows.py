"""A corpus as rows: windows of tokens, one beside the other, each with the tokens that follow. Numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from kdx.core.errors import UserError
from kdx.data.corpora.pieces import Tokenized
from kdx.data.raw import Description, Note, Raw, example_of, fewer_names, fewer_parts
from kdx.data.words import WordsOnDemand

_READS, _BYTES = "tokens", "bytes"
_TASK, _ADAPTER = "kdx.tasks.language.NextToken", "kdx.models.tokens.TokenAdapter"


@dataclass(frozen=True, eq=False)
class WindowNames(WordsOnDemand):
    """What windows are called: the document in which each begins, and at which byte of it. places: (N,) int64
    bytes of the corpus; starts: (D,) int64 of the documents.
    """

    places: np.ndarray
    starts: np.ndarray
    documents: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.places)

    def at(self, place: int) -> str:
        byte = int(self.places[place])
        which = int(np.searchsorted(self.starts, byte, side="right")) - 1
        return f"{self.documents[which]}, byte {byte - int(self.starts[which]):,}"


@dataclass(frozen=True, eq=False)
class Corpus(Raw):
    """parts: name -> (windows (N, L) int32, {"token": (N, L), the token after each, "bytes": (N, L), how many
    bytes that one stands for; int16 where that holds all of them, as a training holds them in memory, else
    int32}). vocabulary: tokens that there are. tokenizer: the text of a
    tokenizer.json, None: tokens are bytes. end: the token between documents. counted: part -> its bytes.
    """

    parts: Mapping[str, tuple[Any, Any]]
    vocabulary: int
    tokenizer: str | None
    end: int
    counted: Mapping[str, int]
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    skipped: tuple[str, ...] = ()
    reads: str = _READS
    noun: str = "window"

    @property
    def task(self) -> Mapping[str, Any]:
        return {"_target_": _TASK, "vocabulary": self.vocabulary, "length": self._length}

    @property
    def _named(self) -> str:
        """The tokenizer as the adapter has it."""
        return _BYTES if self.tokenizer is None else self.tokenizer

    @property
    def _length(self) -> int:
        return int(self.parts["train"][0].shape[1])

    def part(self, name: str) -> tuple[Any, Any]:
        return self.parts.get(name, (None, None))

    def only(self, rows: Mapping[str, np.ndarray]) -> Self:
        parts, names = fewer_parts(self.parts, rows), fewer_names(self.names, rows)
        return replace(self, parts=parts, names=names)

    def fitted(
        self, seen: Sequence[Any], like: Mapping[str, Any] | None = None, *, labelled: bool = True
    ) -> Self:
        """The same rows. Raises UserError where the network that is to read them knows other tokens."""
        if like is not None and like.get("tokenizer") != self._named:
            own, instead = (
                ("bytes", "dataset.tokens=bytes")
                if like.get("tokenizer") == _BYTES
                else (
                    "the tokens of its own vocabulary",
                    "dataset.tokens=bpe and dataset.tokenizer=FILE, the tokenizer.json that kdx export lays "
                    "beside it",
                )
            )
            raise UserError(f"the network reads {own}, and these windows are of other tokens: set {instead}")
        return self

    def adapter(self, seen: Sequence[Any]) -> tuple[Mapping[str, Any], list[Note]]:
        return {"_target_": _ADAPTER, "vocabulary": self.vocabulary, "tokenizer": self._named}, []

    def about(self) -> dict[str, Any]:
        return {"corpus": {"bytes": dict(self.counted), "vocabulary": self.vocabulary, "end": self.end}}

    def in_words(self) -> str:
        what = "bytes" if self.tokenizer is None else f"tokens of {self.vocabulary:,}"
        return f"windows of {self._length:,} {what}"

    def described(self) -> Description:
        """What is said of it beforehand."""
        rows = {name: len(inputs) for name, (inputs, _) in self.parts.items()}
        return Description(
            self.task,
            example_of(self.parts["train"][0]),
            self.reads,
            rows["train"],
            test=rows.get("test"),
            validation=rows.get("validation"),
            adapter=self.adapter([])[0],
            test_size_is_a_fallback=True,
        )


def windows_of(found: Tokenized, length: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(n,) tokens -> (windows (N, L), the truth): N = (n - 1) // L, as the last token of a window is followed
    by the first of the next; what is left of the end makes no window.
    """
    rows = max(0, (len(found.tokens) - 1) // length)
    behind = slice(1, rows * length + 1)
    return found.tokens[: rows * length].reshape(rows, length), {
        "token": _narrow(found.tokens[behind]).reshape(rows, length),
        "bytes": _narrow(found.sizes[behind]).reshape(rows, length),
    }


def _narrow(values: np.ndarray) -> np.ndarray:
    most = int(values.max(initial=0))
    return values.astype(np.int16) if most <= np.iinfo(np.int16).max else values


def first_bytes(found: Tokenized, length: int, start: int) -> np.ndarray:
    """(N,) int64: at which byte of the corpus each window begins. start: of the part."""
    rows = max(0, len(found.tokens) - 1) // length
    each = found.sizes[: rows * length].reshape(rows, length).sum(1, dtype=np.int64)
    return start + np.cumsum(each) - each
