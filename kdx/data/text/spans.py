"""Questions with the texts that hold their answers, as a loader hands them over. Numpy and the standard
library only, until a vocabulary is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Self

import numpy as np

from kdx.core.errors import UserError
from kdx.core.positions import LOST, UNKNOWN
from kdx.data.phrases import counted, few
from kdx.data.raw import Description, Note, Raw, fewer_names
from kdx.data.text.rows import SEEN
from kdx.data.text.squad import NONE, Asked
from kdx.data.text.tokens import Tokens, read_tokens, separator_of, unknown_in, vocabulary_of
from kdx.data.words import some_of

READS = "questions"
SEPARATOR = "[SEP]"
_TASK, _ADAPTER = "kdx.tasks.spans.Spans", "kdx.models.spans.SpanAdapter"
_FARTHEST = 32_767
"""Bytes of a text that positions can be told in."""
_TOGETHER = 4096
_Rows = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class SpanSettings:
    """question: tokens of a question at most; longest: tokens of an answer at most."""

    tokens: Tokens
    question: int
    longest: int


@dataclass(frozen=True)
class Counts:
    """What rows do not show. lengths: (C,) int64 tokens of each context, uncut. contexts, questions: how
    many rows have theirs cut; behind: names of the rows whose answer lies behind the cut; long: how many
    have an answer of more tokens than may be answered."""

    of: str
    lengths: np.ndarray
    contexts: int
    questions: int
    behind: tuple[str, ...]
    long: int


def describe_questions(settings: SpanSettings, no_answer: bool, rows: Mapping[str, int]) -> Description:
    """rows: of each part that there is."""
    tokens = settings.tokens
    return Description(
        _task(settings, no_answer),
        {"tokens": ((tokens.length,), "int32"), "context": ((tokens.length,), "bool")},
        READS,
        rows["train"],
        test=rows.get("test"),
        pool=rows.get("unlabelled", 0),
        test_size_is_a_fallback=True,
        validation=rows.get("validation"),
        adapter=_adapter(tokens.of_file(), tokens.size),
    )


def _task(settings: SpanSettings, no_answer: bool) -> dict[str, Any]:
    return {
        "_target_": _TASK,
        "length": settings.tokens.length,
        "longest": settings.longest,
        "no_answer": no_answer,
    }


def _adapter(tokenizer: str | None, size: int = 0) -> dict[str, Any]:
    return {
        "_target_": _ADAPTER,
        "vocabulary": size if tokenizer is None else vocabulary_of(tokenizer),
        "tokenizer": tokenizer,
    }


@dataclass(frozen=True, eq=False)
class Questions(Raw):
    """questions, contexts: the different texts. numbers: part -> (N, 2) int64, which question and which
    context a row has. places: part -> (N, 2) int64, as in Asked. answers: part -> N right answers, a line
    each. given: the text of a tokenizer.json, None: a vocabulary is made. Until `fitted` a part's inputs are
    the numbers, and its truth the places in letters; then see `kdx.tasks.spans.Spans`.
    """

    questions: Sequence[str]
    contexts: Sequence[str]
    numbers: Mapping[str, np.ndarray]
    places: Mapping[str, np.ndarray]
    answers: Mapping[str, Sequence[str]]
    settings: SpanSettings
    no_answer: bool
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    given: str | None = None
    reads: str = READS
    noun: str = "question"
    tokenizer: str | None = None
    made: Mapping[str, _Rows] = field(default_factory=dict)
    counts: Counts | None = None

    @classmethod
    def of(
        cls,
        parts: Mapping[str, Iterable[tuple[Asked, str]]],
        settings: SpanSettings,
        notes: Sequence[Note],
    ) -> Questions:
        """parts: part -> questions, each with its context."""
        asked: dict[str, int] = {}
        texts: dict[str, int] = {}
        numbers, places, answers, names = {}, {}, {}, {}
        for part, rows in parts.items():
            held = list(rows)
            pairs = [
                (asked.setdefault(one.question, len(asked)), texts.setdefault(text, len(texts)))
                for one, text in held
            ]
            numbers[part] = np.array(pairs, np.int64).reshape(-1, 2)
            places[part] = np.array([(one.start, one.end) for one, _ in held], np.int64).reshape(-1, 2)
            answers[part] = ["\n".join(" ".join(text.split()) for text in one.answers) for one, _ in held]
            names[part] = [one.name for one, _ in held]
        return cls(
            tuple(asked),
            tuple(texts),
            numbers,
            places,
            answers,
            replace(settings, tokens=replace(settings.tokens, file=None)),
            any(bool((found == NONE).any()) for found in places.values()),
            names,
            tuple(notes),
            settings.tokens.of_file(),
        )

    @property
    def task(self) -> Mapping[str, Any]:
        return _task(self.settings, self.no_answer)

    def part(self, name: str) -> tuple[Any, Any]:
        if name not in self.numbers:
            return None, None
        if name in self.made:
            inputs, truth = self.made[name]
            return inputs, None if name == "unlabelled" else truth
        if name == "unlabelled":
            return self.numbers[name], None
        start, end = self.places[name].T.astype(np.int32)
        return self.numbers[name], {"start": np.ascontiguousarray(start), "end": np.ascontiguousarray(end)}

    def only(self, rows: Mapping[str, np.ndarray]) -> Self:
        def fewer(of: Mapping[str, Any]) -> dict[str, Any]:
            return {name: found[rows[name]] if name in rows else found for name, found in of.items()}

        return replace(
            self,
            numbers=fewer(self.numbers),
            places=fewer(self.places),
            answers=fewer_names(self.answers, rows),
            names=fewer_names(self.names, rows),
        )

    def fitted(self, seen: Sequence[Any], like: Mapping[str, Any] | None = None) -> Self:
        """With tokens in place of numbers, by the vocabulary of `like`, of the file that was given, or of one
        that is made of the questions and contexts that training may see."""
        of, tokenizer = "dataset.tokenizer", self.given
        if like is not None:
            of, tokenizer = "the network that reads them", like["tokenizer"]
        if tokenizer is None:
            of = SEEN.replace("texts", "questions", 1)
            tokenizer = self.settings.tokens.of(self._seen(np.concatenate(seen)), special=(SEPARATOR,))
        made, counts = _Rowing(self, tokenizer).parts(of)
        return replace(self, tokenizer=tokenizer, made=made, counts=counts)

    def _seen(self, numbers: np.ndarray) -> Iterator[str]:
        for texts, column in ((self.questions, 0), (self.contexts, 1)):
            yield from some_of(texts, np.unique(numbers[:, column]))

    def adapter(self, seen: Sequence[Any]) -> tuple[Mapping[str, Any], list[Note]]:
        return _adapter(self.tokenizer), []

    def in_words(self) -> str:
        if self.counts is None or not len(self.counts.lengths):
            return "questions"
        lengths = self.counts.lengths
        return (
            f"questions of texts of {lengths.min():,} to {lengths.max():,} tokens "
            f"(median {int(np.median(lengths)):,})"
        )

    def look(
        self, inputs: Mapping[str, Any], name: Callable[[str, int], str]
    ) -> tuple[list[Note], dict[str, Any]]:
        assert self.tokenizer is not None and self.counts is not None
        counts, rows = self.counts, sum(map(len, self.numbers.values()))
        size, length = vocabulary_of(self.tokenizer), self.settings.tokens.length
        notes: list[Note] = [(f"vocabulary of {size:,} tokens, of {counts.of}", "info")]
        many = "warning" if len(counts.behind) >= rows / 20 else "info"
        if counts.contexts or counts.questions:
            notes.append(
                (
                    f"of {counted(rows, 'question')} {counts.contexts:,} have a text that is cut at "
                    f"dataset.length={length} tokens, and {counts.questions:,} are cut themselves at "
                    f"dataset.question_length={self.settings.question}",
                    "info",
                )
            )
        if counts.behind:
            notes.append(
                (
                    f"the answers to {counted(len(counts.behind), 'question')} lie behind the cut "
                    f"({few(counts.behind)}): they teach nothing, and count as wrong where they are measured",
                    many,
                )
            )
        if counts.long:
            notes.append(
                (
                    f"{counted(counts.long, 'answer')} {'is' if counts.long == 1 else 'are'} longer than "
                    f"dataset.answer_length={self.settings.longest} tokens: no network can give them whole",
                    "info",
                )
            )
        return notes, {
            "questions": {
                "vocabulary": size,
                "vocabulary_of": counts.of,
                "cut_texts": counts.contexts,
                "cut_questions": counts.questions,
                "cut_answers": len(counts.behind),
                "long_answers": counts.long,
                "unknown_token": unknown_in(self.tokenizer),
            }
        }


class _Rowing:
    """Makes rows of tokens. A row: the question, a separator, the text, each as far as there is room."""

    def __init__(self, raw: Questions, tokenizer: str):
        self.raw = raw
        self.separator = separator_of(tokenizer, SEPARATOR)
        if self.separator is None:
            raise UserError(
                "dataset=squad needs a token between a question and its text, and this tokenizer.json has "
                f"neither {SEPARATOR} nor </s>: take another, or leave dataset.tokenizer out"
            )
        self.asked = read_tokens(tokenizer, raw.questions)
        self.texts = [
            _in_bytes(text, *of)
            for text, of in zip(raw.contexts, read_tokens(tokenizer, raw.contexts), strict=True)
        ]
        self.cut_texts = self.cut_questions = self.long = 0
        self.behind: list[str] = []

    def parts(self, of: str) -> tuple[dict[str, _Rows], Counts]:
        """of: what the vocabulary is made of."""
        found = {part: self._rows(part) for part in self.raw.numbers}
        widths = {
            name: max(truth[name].shape[1] for _, truth in found.values()) for name in ("text", "answers")
        }
        for _, truth in found.values():
            for name, width in widths.items():
                truth[name] = np.pad(truth[name], ((0, 0), (0, width - truth[name].shape[1])))
        lengths = np.array([len(ids) for ids, *_ in self.texts], np.int64)
        return found, Counts(of, lengths, self.cut_texts, self.cut_questions, tuple(self.behind), self.long)

    def _rows(self, part: str) -> _Rows:
        raw, length = self.raw, self.raw.settings.tokens.length
        numbers = raw.numbers[part]
        rows = len(numbers)
        tokens, context = np.zeros((rows, length), np.int32), np.zeros((rows, length), bool)
        left, right = (np.zeros((rows, length), np.int16) for _ in range(2))
        start, end = (np.full(rows, UNKNOWN, np.int32) for _ in range(2))
        texts = []
        for row, (question, text) in enumerate(numbers.tolist()):
            first, reach = self._lay(tokens[row], question, text)
            ids, lefts, rights, letters = self.texts[text]
            inside = slice(first, first + reach)
            left[row, inside], right[row, inside] = lefts[:reach], rights[:reach]
            context[row, inside] = True
            context[row, first - 1] = raw.no_answer
            texts.append(letters[: rights[reach - 1]] if reach else b"")
            start[row], end[row] = self._place(part, row, first, reach, (lefts, rights))
        right_ones = [found.encode() for found in raw.answers[part]]
        truth = {"start": start, "end": end, "text": _filled(texts), "left": left, "right": right}
        return {"tokens": tokens, "context": context}, truth | {"answers": _filled(right_ones)}

    def _lay(self, row: np.ndarray, question: int, text: int) -> tuple[int, int]:
        """(where the text begins, how many of its tokens there are)"""
        settings = self.raw.settings
        asked, ids = self.asked[question][0], self.texts[text][0]
        self.cut_questions += len(asked) > settings.question
        asked = asked[: settings.question]
        first = len(asked) + 1
        row[: first - 1], row[first - 1] = asked, self.separator
        reach = min(len(ids), len(row) - first)
        while reach and self.texts[text][2][reach - 1] > _FARTHEST:
            reach -= 1
        self.cut_texts += reach < len(ids)
        row[first : first + reach] = ids[:reach]
        return first, reach

    def _place(
        self, part: str, row: int, first: int, reach: int, edges: tuple[np.ndarray, np.ndarray]
    ) -> tuple[int, int]:
        """The positions of the answer in the row, both inclusive."""
        raw = self.raw
        start, end = raw.places[part][row].tolist()
        if start == NONE:
            return first - 1, first - 1
        if start < 0:
            return start, start
        letters = raw.contexts[int(raw.numbers[part][row, 1])]
        start, end = (len(letters[:place].encode()) for place in (start, end))
        lefts, rights = edges
        begins, ends = int((rights <= start).sum()), int((lefts < end).sum()) - 1
        if ends < begins or ends >= reach:
            self.behind.append(raw.name(part, row))
            return LOST, LOST
        self.long += ends - begins >= raw.settings.longest
        return first + begins, first + ends


def _in_bytes(
    text: str, ids: list[int], edges: list[tuple[int, int]]
) -> tuple[list[int], np.ndarray, np.ndarray, bytes]:
    """(tokens, from which byte each reaches, to which, the text in UTF-8). edges: the same in letters."""
    places = np.array(edges, np.int64).reshape(-1, 2)
    letters = text.encode()
    if len(letters) != len(text):
        at = np.array([0, *accumulate(len(letter.encode()) for letter in text)], np.int64)
        places = at[places]
    return ids, places[:, 0], places[:, 1], letters


def _filled(texts: Sequence[bytes]) -> np.ndarray:
    """(N, the longest) uint8, 0 behind each"""
    width = max([1, *map(len, texts)])
    whole = b"".join(text.ljust(width, b"\0") for text in texts)
    return np.frombuffer(whole, np.uint8).reshape(len(texts), width).copy()
