"""Questions with the texts that hold their answers, as a loader hands them over. Numpy and the standard
library only, until a vocabulary is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from kdx.data.phrases import counted, few
from kdx.data.raw import Description, Note, Raw, fewer_names
from kdx.data.text.rows import SEEN
from kdx.data.text.span_rows import SEPARATOR, Counts, QuestionTexts, SpanRows, SpanSettings, make_rows
from kdx.data.text.squad import NO_ANSWER, SquadQuestion
from kdx.data.text.tokens import unknown_in, vocabulary_of
from kdx.data.words import some_of

_READS = "questions"
_TASK, _ADAPTER = "kdx.tasks.spans.Spans", "kdx.models.spans.SpanAdapter"


def describe_questions(settings: SpanSettings, no_answer: bool, rows: Mapping[str, int]) -> Description:
    """rows: of each part that there is."""
    tokens = settings.tokens
    return Description(
        _task(settings, no_answer),
        {"tokens": (settings.shape, "int32"), "context": (settings.shape, "bool")},
        _READS,
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
        **({"windows": settings.windows} if settings.windows > 1 else {}),
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
    context a row has. places: part -> (N, 2) int64, start and end as in SquadQuestion. answers: part -> N
    right answers, a line each. given: the text of a tokenizer.json, None: a vocabulary is made. Until
    `fitted` a part's inputs are the numbers, and its truth the places in letters; then see
    `kdx.tasks.spans.Spans`.
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
    reads: str = _READS
    noun: str = "question"
    tokenizer: str | None = None
    made: Mapping[str, SpanRows] = field(default_factory=dict)
    counts: Counts | None = None

    @classmethod
    def of(
        cls,
        parts: Mapping[str, Iterable[tuple[SquadQuestion, str]]],
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
            any(bool((found == NO_ANSWER).any()) for found in places.values()),
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

    def fitted(
        self, seen: Sequence[Any], like: Mapping[str, Any] | None = None, *, labelled: bool = True
    ) -> Self:
        """With tokens in place of numbers, by the vocabulary of `like`, of the file that was given, or of one
        that is made of the questions and contexts that training may see."""
        of, tokenizer = "dataset.tokenizer", self.given
        if like is not None:
            of, tokenizer = "the network that reads them", like["tokenizer"]
        if tokenizer is None:
            of = SEEN[labelled].replace("texts", "questions", 1)
            tokenizer = self.settings.tokens.of(self._seen(np.concatenate(seen)), special=(SEPARATOR,))
        raw = QuestionTexts(
            self.questions,
            self.contexts,
            self.numbers,
            self.places,
            self.answers,
            self.settings,
            self.no_answer,
            self.name,
        )
        made, counts = make_rows(raw, tokenizer, of)
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
        several = self.settings.windows > 1
        windows = f"dataset.windows={self.settings.windows} of " if several else ""
        whole = ", or in no window whole" if several else ""
        notes: list[Note] = [(f"vocabulary of {size:,} tokens, of {counts.of}", "info")]
        many = "warning" if len(counts.behind) >= rows / 20 else "info"
        if counts.contexts or counts.questions:
            notes.append(
                (
                    f"of {counted(rows, 'question')} {counts.contexts:,} have a text that is cut at "
                    f"{windows}dataset.length={length} tokens, and {counts.questions:,} are cut themselves "
                    f"at dataset.question_length={self.settings.question}",
                    "info",
                )
            )
        if counts.behind:
            notes.append(
                (
                    f"the answers to {counted(len(counts.behind), 'question')} lie behind the cut{whole} "
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
