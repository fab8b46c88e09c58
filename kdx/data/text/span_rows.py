"""Questions and their texts as rows of tokens, with the positions of the answers. Numpy and the standard
library only, until tokens are made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from kdx.core.errors import UserError
from kdx.core.positions import LOST, NOT_KNOWN
from kdx.data.text.squad import NO_ANSWER
from kdx.data.text.tokens import Tokens, read_tokens, separator_of

SEPARATOR = "[SEP]"
_FARTHEST = 32_767
"""Bytes of a text that positions can be written in."""
SpanRows = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
"""Inputs and truth of the rows of a part: see `kdx.tasks.spans.Spans`."""


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


@dataclass(frozen=True)
class QuestionTexts:
    """What rows are made of: see `kdx.data.text.spans.Questions`. name: what a row of a part is called."""

    questions: Sequence[str]
    contexts: Sequence[str]
    numbers: Mapping[str, np.ndarray]
    places: Mapping[str, np.ndarray]
    answers: Mapping[str, Sequence[str]]
    settings: SpanSettings
    no_answer: bool
    name: Callable[[str, int], str]


def make_rows(raw: QuestionTexts, tokenizer: str, of: str) -> tuple[dict[str, SpanRows], Counts]:
    """By part. of: what the vocabulary is made of. Raises UserError where the tokenizer has no separator."""
    return _Rowing(raw, tokenizer).parts(of)


class _Rowing:
    """Makes rows of tokens. A row: the question, a separator, the text, each as far as there is room."""

    def __init__(self, raw: QuestionTexts, tokenizer: str):
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

    def parts(self, of: str) -> tuple[dict[str, SpanRows], Counts]:
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

    def _rows(self, part: str) -> SpanRows:
        raw, length = self.raw, self.raw.settings.tokens.length
        numbers = raw.numbers[part]
        rows = len(numbers)
        tokens, context = np.zeros((rows, length), np.int32), np.zeros((rows, length), bool)
        left, right = (np.zeros((rows, length), np.int16) for _ in range(2))
        start, end = (np.full(rows, NOT_KNOWN, np.int32) for _ in range(2))
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
        if start == NO_ANSWER:
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
