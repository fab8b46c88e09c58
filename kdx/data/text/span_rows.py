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
    """tokens: how texts become tokens; its length is that of a window. question: tokens of a question at
    most; longest: of an answer at most. windows: of a row at most; stride: tokens of the text from the
    beginning of one to that of the next."""

    tokens: Tokens
    question: int
    longest: int
    windows: int = 1
    stride: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row's tokens."""
        length = self.tokens.length
        return (length,) if self.windows == 1 else (self.windows, length)


@dataclass(frozen=True)
class Counts:
    """What rows do not show. lengths: (C,) int64 tokens of each context, uncut. contexts, questions: how
    many rows have theirs cut; behind: names of the rows whose answer lies behind the cut, or in no window
    whole; long: how many
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
    """Makes rows of tokens. A row: the question, a separator, the text, each as far as there is room; of
    several windows each has the question, and its own part of the text."""

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
        raw, settings = self.raw, self.raw.settings
        numbers = raw.numbers[part]
        rows = len(numbers)
        shape = (rows, settings.windows, settings.tokens.length)
        tokens, context = np.zeros(shape, np.int32), np.zeros(shape, bool)
        left, right = (np.zeros(shape, np.int16) for _ in range(2))
        start, end = (np.full(rows, NOT_KNOWN, np.int32) for _ in range(2))
        texts = []
        for row, (question, text) in enumerate(numbers.tolist()):
            first, parts = self._lay(tokens[row], question, text)
            ids, lefts, rights, letters = self.texts[text]
            for window, held in enumerate(parts):
                inside = slice(first, first + len(held))
                shown = slice(held.start, held.stop)
                left[row, window, inside], right[row, window, inside] = lefts[shown], rights[shown]
                context[row, window, inside] = True
            context[row, 0, first - 1] = raw.no_answer
            reach = parts[-1].stop
            texts.append(letters[: rights[reach - 1]] if reach else b"")
            start[row], end[row] = self._place(part, row, first, parts, (lefts, rights))
        right_ones = [found.encode() for found in raw.answers[part]]
        edges = {"left": left.reshape(rows, -1), "right": right.reshape(rows, -1)}
        truth = {"start": start, "end": end, "text": _filled(texts), **edges}
        inputs = {"tokens": tokens, "context": context}
        laid = {name: array.reshape(rows, *settings.shape) for name, array in inputs.items()}
        return laid, truth | {"answers": _filled(right_ones)}

    def _lay(self, row: np.ndarray, question: int, text: int) -> tuple[int, list[range]]:
        """row: (W, L). (where the text begins, which of its tokens each window that is used holds)"""
        settings = self.raw.settings
        asked, (ids, _, rights, _) = self.asked[question][0], self.texts[text]
        self.cut_questions += len(asked) > settings.question
        asked = asked[: settings.question]
        first, reach = len(asked) + 1, len(ids)
        while reach and rights[reach - 1] > _FARTHEST:
            reach -= 1
        parts = parts_of_text(reach, row.shape[1] - first, settings.windows, settings.stride)
        self.cut_texts += parts[-1].stop < len(ids)
        for window, part in enumerate(parts):
            row[window, : first - 1], row[window, first - 1] = asked, self.separator
            row[window, first : first + len(part)] = ids[part.start : part.stop]
        return first, parts

    def _place(
        self, part: str, row: int, first: int, parts: Sequence[range], edges: tuple[np.ndarray, np.ndarray]
    ) -> tuple[int, int]:
        """The positions of the answer in the row, both inclusive: in the window that shows most of the text
        on both sides of it."""
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
        whole = [n for n, held in enumerate(parts) if held.start <= begins and ends < held.stop]
        if ends < begins or not whole:
            self.behind.append(raw.name(part, row))
            return LOST, LOST
        self.long += ends - begins >= raw.settings.longest
        best = max(whole, key=lambda n: min(begins - parts[n].start, parts[n].stop - 1 - ends))
        moved = best * raw.settings.tokens.length + first - parts[best].start
        return moved + begins, moved + ends


def parts_of_text(tokens: int, room: int, windows: int, stride: int) -> list[range]:
    """Which of so many tokens each window shows: `room` at most, each window `stride` behind the one before,
    or where the one before ends if that is sooner. As many windows as it takes, one at least."""
    step = min(stride, room)
    found = [range(0, min(tokens, room))]
    while len(found) < windows and found[-1].stop < tokens:
        begin = found[-1].start + step
        found.append(range(begin, min(tokens, begin + room)))
    return found


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
