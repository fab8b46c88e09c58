"""Texts with one class each, as their loaders hand them over. Numpy and the standard library only, until a
vocabulary is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from kdx.data.loading import per_class
from kdx.data.phrases import RARE, are, few
from kdx.data.raw import Description, Note, Raw, fewer_names
from kdx.data.text.tokens import Tokens, encode, unknown_in, vocabulary_of

_READS = "texts"
_TASK, _ADAPTER = "kdx.tasks.classification.Classification", "kdx.models.text.TextAdapter"
SEEN = "the labelled texts and those of the pool"


@dataclass(frozen=True)
class Part:
    """N texts as they were found. labels: (N,) int64, -1 where nobody knows. names: what each is called."""

    texts: Sequence[str]
    labels: np.ndarray
    names: Sequence[str]


def describe_texts(tokens: Tokens, classes: Sequence[str], parts: Mapping[str, Part]) -> Description:
    """The Description of parts by name, as `Texts` has them."""
    tokenizer = tokens.of_file()
    rows = {name: len(part.texts) for name, part in parts.items()}
    return Description(
        {"_target_": _TASK, "classes": list(classes)},
        {"": ((tokens.length,), "int32")},
        _READS,
        rows["train"],
        per_class(parts["train"].labels, len(classes)),
        rows.get("test"),
        rows.get("unlabelled", 0),
        test_size_is_a_fallback=True,
        validation=rows.get("validation"),
        adapter=adapter_spec(tokenizer, tokens.size),
    )


def adapter_spec(tokenizer: str | None, size: int = 0) -> dict[str, Any]:
    """size: of the vocabulary, where there is none yet."""
    return {
        "_target_": _ADAPTER,
        "vocabulary": size if tokenizer is None else vocabulary_of(tokenizer),
        "tokenizer": tokenizer,
    }


@dataclass(frozen=True)
class Encoded:
    """What is known once there is a vocabulary. rows: (U, L) int32, lengths: (U,) int64, of the U different
    texts; tokenizer: the text of a tokenizer.json; of: what it was made of.
    """

    rows: np.ndarray
    lengths: np.ndarray
    tokenizer: str
    of: str


@dataclass(frozen=True, eq=False)
class Texts(Raw):
    """texts: the U different ones; numbers: part -> (N,) int64 which of them a row is; labels: part -> (N,)
    int64, of "unlabelled" none. given: the text of a tokenizer.json, None: a vocabulary is made. Until
    `fitted` a part's inputs are these numbers, then tokens (N, L) int32.
    """

    texts: Sequence[str]
    numbers: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    classes: tuple[str, ...]
    tokens: Tokens
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    skipped: tuple[str, ...] = ()
    given: str | None = None
    encoded: Encoded | None = None
    reads: str = _READS
    noun: str = "text"

    @classmethod
    def of(
        cls,
        parts: Mapping[str, Part],
        classes: Sequence[str],
        tokens: Tokens,
        notes: Sequence[Note] = (),
        skipped: Sequence[str] = (),
    ) -> Texts:
        known: dict[str, int] = {}
        numbers = {
            name: np.array([known.setdefault(text, len(known)) for text in part.texts], np.int64)
            for name, part in parts.items()
        }
        labels = {name: part.labels for name, part in parts.items() if name != "unlabelled"}
        names = {name: part.names for name, part in parts.items()}
        return cls(
            tuple(known),
            numbers,
            labels,
            tuple(classes),
            replace(tokens, file=None),
            names,
            tuple(notes),
            tuple(skipped),
            tokens.of_file(),
        )

    @property
    def task(self) -> Mapping[str, Any]:
        return {"_target_": _TASK, "classes": list(self.classes)}

    def part(self, name: str) -> tuple[np.ndarray | None, np.ndarray | None]:
        if name not in self.numbers:
            return None, None
        rows = self.numbers[name]
        return rows if self.encoded is None else self.encoded.rows[rows], self.labels.get(name)

    def only(self, rows: Mapping[str, np.ndarray]) -> Self:
        def fewer(of: Mapping[str, Any]) -> dict[str, Any]:
            return {name: found[rows[name]] if name in rows else found for name, found in of.items()}

        names = fewer_names(self.names, rows)
        return replace(self, numbers=fewer(self.numbers), labels=fewer(self.labels), names=names)

    def strata(self, part: str) -> np.ndarray | None:
        return self.labels.get(part)

    def fitted(self, seen: Sequence[Any], like: Mapping[str, Any] | None = None) -> Self:
        """With tokens in place of numbers: of the vocabulary of `like`, of the file that was given, or of one
        that is made of the texts that training may see.
        """
        of, tokenizer = "dataset.tokenizer", self.given
        if like is not None:
            of, tokenizer = "the network that reads them", like["tokenizer"]
        if tokenizer is None:
            of = SEEN
            tokenizer = self.tokens.of([self.texts[i] for i in np.concatenate(seen).tolist()])
        rows, lengths = encode(tokenizer, self.texts[:], self.tokens.length)
        return replace(self, encoded=Encoded(rows, lengths, tokenizer, of))

    def adapter(self, seen: Sequence[Any]) -> tuple[Mapping[str, Any], list[Note]]:
        assert self.encoded is not None, "prepare asks for the adapter of the fitted rows"
        return adapter_spec(self.encoded.tokenizer), []

    def in_words(self) -> str:
        if self.encoded is None:
            return "texts"
        lengths = self._lengths()
        middle = int(np.median(lengths))
        return f"texts of {lengths.min():,} to {lengths.max():,} tokens (median {middle:,})"

    def look(
        self, inputs: Mapping[str, np.ndarray], name: Callable[[str, int], str]
    ) -> tuple[list[Note], dict[str, Any]]:
        assert self.encoded is not None
        lengths = self._lengths()
        cut = int((lengths > self.tokens.length).sum())
        unknown = {split: self._unknown(rows) for split, rows in inputs.items() if len(rows)}
        notes = list(self._of_vocabulary(unknown))
        if cut:
            notes.append(
                (
                    f"{are(cut, f'of {len(lengths):,} texts')} longer than dataset.length="
                    f"{self.tokens.length}, and cut there",
                    "warning" if cut >= len(lengths) / 10 else "info",
                )
            )
        empty = self._without(inputs, name, lambda rows: ~rows.any(1))
        strange = unknown_in(self.encoded.tokenizer)
        none_known = self._without(
            inputs, name, lambda rows: rows.any(1) & ~((rows != 0) & (rows != strange)).any(1)
        )
        for found, what in ((empty, "empty"), (none_known, "made of unknown tokens alone")):
            if found:
                quiet = len(found) < RARE * sum(map(len, inputs.values()))
                notes.append(
                    (
                        f"{are(len(found), f'of {sum(map(len, inputs.values())):,} texts')} {what} "
                        f"({few(found)}): there is nothing to learn from in "
                        f"{'it' if len(found) == 1 else 'them'}",
                        "info" if quiet else "warning",
                    )
                )
        return notes, {
            "texts": {
                "vocabulary": vocabulary_of(self.encoded.tokenizer),
                "vocabulary_of": self.encoded.of,
                "unknown": unknown,
                "lengths": [int(lengths.min()), int(np.median(lengths)), int(lengths.max())],
                "cut": cut,
                "empty": len(empty),
                "none_known": len(none_known),
            }
        }

    def _lengths(self) -> np.ndarray:
        """(N,) tokens of every row, uncut."""
        assert self.encoded is not None
        return self.encoded.lengths[np.concatenate(list(self.numbers.values()))]

    def _unknown(self, rows: np.ndarray) -> float:
        """The share of a split's tokens that are not in the vocabulary."""
        assert self.encoded is not None
        strange, whole = unknown_in(self.encoded.tokenizer), int((rows != 0).sum())
        return float((rows == strange).sum() / whole) if strange is not None and whole else 0.0

    def _of_vocabulary(self, unknown: Mapping[str, float]) -> list[Note]:
        assert self.encoded is not None
        held_out = [split for split in ("validation", "test") if split in unknown]
        shares = " and ".join(f"{unknown[split]:.1%} of the {split} tokens" for split in held_out)
        size = vocabulary_of(self.encoded.tokenizer)
        apart = ", none of validation or test" if self.encoded.of == SEEN else ""
        text = f"vocabulary of {size:,} tokens, of {self.encoded.of}{apart}"
        return [(text + (f"; {shares} are unknown in it" if shares else ""), "info")]

    def _without(
        self,
        inputs: Mapping[str, np.ndarray],
        name: Callable[[str, int], str],
        lacks: Callable[[np.ndarray], np.ndarray],
    ) -> list[str]:
        """Names of the rows that lack something."""
        return [
            name(split, row) for split, rows in inputs.items() for row in np.flatnonzero(lacks(rows)).tolist()
        ]
