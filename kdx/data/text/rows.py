"""Texts with one class each, as their loaders hand them over. Numpy and the standard library only, until a
vocabulary is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from kdx.core.errors import UserError
from kdx.data.phrases import RARE, are, few
from kdx.data.raw import Description, Note, Raw, Skipped, fewer_names, joined_names
from kdx.data.stored import LazyRows, Writer, in_blocks
from kdx.data.text.tokens import Tokens, encode, unknown_in, vocabulary_of
from kdx.data.words import DifferentTexts, number_of_empty, some_of

_READS = "texts"
_TASK, _ADAPTER = "kdx.tasks.classification.Classification", "kdx.models.text.TextAdapter"
_TOGETHER = 4096
"""Texts that are held together."""
SEEN = {True: "the labelled texts and those of the pool", False: "the texts of the pool alone"}
"""What a vocabulary is made of, by whether labelled texts are among it."""


@dataclass(frozen=True)
class Part:
    """N texts as they were found. labels: (N,) int64, -1 where nobody knows. names: what each is called."""

    texts: Sequence[str]
    labels: np.ndarray
    names: Sequence[str]


def describe_texts(
    tokens: Tokens, classes: Sequence[str], rows: Mapping[str, int], per_class: tuple[int, ...]
) -> Description:
    """rows: of each part that there is. per_class: of the part to train with."""
    return Description(
        {"_target_": _TASK, "classes": list(classes)},
        {"": ((tokens.length,), "int32")},
        _READS,
        rows["train"],
        per_class,
        rows.get("test"),
        rows.get("unlabelled", 0),
        test_size_is_a_fallback=True,
        validation=rows.get("validation"),
        adapter=adapter_spec(tokens.of_file(), tokens.size),
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
    """What is known once there is a vocabulary. tokenizer: the text of a tokenizer.json; of: what it was made
    of; lengths: (U,) int64 tokens of each of the U different texts, uncut, -1 where it was not encoded yet.
    """

    tokenizer: str
    of: str
    lengths: np.ndarray


class TokenRows(LazyRows):
    """Texts as tokens, (N, length) int32, encoded as they are asked for. numbers: (N,) which of the texts
    these are. Takes note of their lengths.
    """

    dtype = np.dtype(np.int32)

    def __init__(self, texts: Sequence[str], encoded: Encoded, length: int, numbers: np.ndarray):
        self.texts, self.encoded, self.length, self.numbers = texts, encoded, length, numbers

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.numbers), self.length)

    def read(self, rows: np.ndarray) -> np.ndarray:
        numbers = self._numbers(rows)
        if not len(numbers):
            return np.empty((0, self.length), np.int32)
        different, places = np.unique(numbers, return_inverse=True)
        found, lengths = encode(self.encoded.tokenizer, some_of(self.texts, different), self.length)
        self.encoded.lengths[different] = lengths
        return found[places]

    def take(self, rows: np.ndarray) -> TokenRows:
        return TokenRows(self.texts, self.encoded, self.length, self._numbers(rows))

    def and_then(self, others: TokenRows) -> TokenRows:
        return TokenRows(
            self.texts, self.encoded, self.length, np.concatenate([self.numbers, others.numbers])
        )


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
    skipped: Skipped = ()
    given: str | None = None
    encoded: Encoded | None = None
    reads: str = _READS
    noun: str = "text"

    @classmethod
    def of(
        cls,
        parts: Iterable[tuple[str, Part]],
        classes: Sequence[str],
        tokens: Tokens,
        notes: Sequence[Note] = (),
        skipped: Skipped = (),
        writer: Writer | None = None,
    ) -> Texts:
        """parts: texts by part, one batch after the other; they may come as they are read, and what is found
        on the way added to `skipped`. writer: takes the letters of the texts, None: they are held.
        """
        different = DifferentTexts(writer)
        numbers: dict[str, list[np.ndarray]] = {}
        labels: dict[str, list[np.ndarray]] = {}
        names: dict[str, list[Sequence[str]]] = {}
        for name, part in parts:
            found = np.fromiter(map(different.number, part.texts), np.int64, len(part.texts))
            numbers.setdefault(name, []).append(found)
            labels.setdefault(name, []).append(part.labels)
            names.setdefault(name, []).append(part.names)
        return cls(
            different.close(),
            {name: np.concatenate(found) for name, found in numbers.items()},
            {name: np.concatenate(found) for name, found in labels.items() if name != "unlabelled"},
            tuple(classes),
            replace(tokens, file=None),
            {name: joined_names(found) for name, found in names.items()},
            tuple(notes),
            skipped if isinstance(skipped, Mapping) else tuple(skipped),
            tokens.of_file(),
        )

    @property
    def task(self) -> Mapping[str, Any]:
        return {"_target_": _TASK, "classes": list(self.classes)}

    def part(self, name: str) -> tuple[np.ndarray | None, np.ndarray | None]:
        if name not in self.numbers:
            return None, None
        rows: Any = self.numbers[name]
        if self.encoded is not None:
            rows = TokenRows(self.texts, self.encoded, self.tokens.length, rows)
        return rows, self.labels.get(name)

    def only(self, rows: Mapping[str, np.ndarray]) -> Self:
        def fewer(of: Mapping[str, Any]) -> dict[str, Any]:
            return {name: found[rows[name]] if name in rows else found for name, found in of.items()}

        names = fewer_names(self.names, rows)
        return replace(self, numbers=fewer(self.numbers), labels=fewer(self.labels), names=names)

    def strata(self, part: str) -> np.ndarray | None:
        return self.labels.get(part)

    def fitted(
        self, seen: Sequence[Any], like: Mapping[str, Any] | None = None, *, labelled: bool = True
    ) -> Self:
        """With tokens in place of numbers: of the vocabulary of `like`, of the file that was given, or of one
        that is made of the texts that training may see.
        """
        of, tokenizer = "dataset.tokenizer", self.given
        if like is not None:
            of, tokenizer = "the network that reads them", like["tokenizer"]
        if tokenizer is None:
            of, numbers = SEEN[labelled], np.concatenate(seen)
            if not len(numbers):  # of private labelled texts, whose pool is another data set's
                raise UserError(
                    "there is no text that a vocabulary may be made of: name one with dataset.tokenizer=FILE"
                )
            tokenizer = self.tokens.of(self._texts(numbers))
        return replace(self, encoded=Encoded(tokenizer, of, np.full(len(self.texts), -1, np.int64)))

    def _texts(self, numbers: np.ndarray) -> Iterator[str]:
        """These texts, of which a block is held at a time."""
        for start in range(0, len(numbers), _TOGETHER):
            yield from some_of(self.texts, numbers[start : start + _TOGETHER])

    def blank(self, inputs: Any) -> np.ndarray | None:
        return np.asarray(inputs) == number if (number := number_of_empty(self.texts)) is not None else None

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
        numbers = np.concatenate(list(self.numbers.values()))
        left = np.unique(numbers[self.encoded.lengths[numbers] < 0])
        for _ in TokenRows(self.texts, self.encoded, self.tokens.length, left).blocks():
            pass  # it takes note of them
        return self.encoded.lengths[numbers]

    def _unknown(self, rows: np.ndarray) -> float:
        """The share of a split's tokens that are not in the vocabulary."""
        assert self.encoded is not None
        strange = unknown_in(self.encoded.tokenizer)
        whole = sum(int((block != 0).sum()) for block in in_blocks(rows))
        if strange is None or not whole:
            return 0.0
        return sum(int((block == strange).sum()) for block in in_blocks(rows)) / whole

    def _of_vocabulary(self, unknown: Mapping[str, float]) -> list[Note]:
        assert self.encoded is not None
        held_out = [split for split in ("validation", "test") if split in unknown]
        shares = " and ".join(f"{unknown[split]:.1%} of the {split} tokens" for split in held_out)
        size = vocabulary_of(self.encoded.tokenizer)
        apart = ", none of validation or test" if self.encoded.of in SEEN.values() else ""
        text = f"vocabulary of {size:,} tokens, of {self.encoded.of}{apart}"
        return [(text + (f"; {shares} are unknown in it" if shares else ""), "info")]

    def _without(
        self,
        inputs: Mapping[str, np.ndarray],
        name: Callable[[str, int], str],
        lacks: Callable[[np.ndarray], np.ndarray],
    ) -> list[str]:
        """Names of the rows that lack something."""
        found = []
        for split, rows in inputs.items():
            lacking = np.concatenate([lacks(block) for block in in_blocks(rows)] or [np.empty(0, bool)])
            found += [name(split, row) for row in np.flatnonzero(lacking).tolist()]
        return found
