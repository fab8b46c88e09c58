"""New questions with their texts, as tokens of the vocabulary that a network learned with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core.errors import UserError
from kdx.core.positions import NOT_KNOWN
from kdx.data.new_rows.rows import NewRows, RowBlock, check_there
from kdx.data.phrases import are
from kdx.data.text.span_rows import QuestionTexts, SpanSettings, make_rows
from kdx.data.text.squad import SquadQuestion, read_squad
from kdx.data.text.tokens import Tokens

_ID = "id"
_NEW = "new"


class NewQuestions(NewRows):
    """The questions of one file in the form of SQuAD, whose answers are not read. What a row is called is the
    question's id. Each has a truth, that of nobody knowing the answer: it holds the text.

    tokenizer: the text of a tokenizer.json. task: its description, see kdx.tasks.spans.Spans. how: the data
    set's `question_length` and `stride`.
    """

    noun = "question"

    def __init__(self, place: Path, tokenizer: str, task: Mapping[str, Any], how: Mapping[str, Any]):
        check_there(place)
        if place.is_dir():
            raise UserError(f"data='{place}' is a folder: name one file of questions in it")
        if "question_length" not in how:
            raise UserError(
                "this export was made by an older kdx, and does not say how long questions may be: export it "
                "again, or name its run"
            )
        self._tokenizer, length = tokenizer, int(task["length"])
        tokens = Tokens("words", 0, 1, False, length)  # of which the length alone is read
        step = int(how.get("stride") or max(1, length // 3))
        windows = int(task.get("windows", 1))
        self._settings = SpanSettings(
            tokens, int(how["question_length"]), int(task["longest"]), windows, step
        )
        self._no_answer = bool(task["no_answer"])
        found = read_squad(place)
        self._contexts, self._asked = found.contexts, found.asked
        self.count, self.unread = len(self._asked), []
        self._cut = self._cut_questions = 0

    def blocks(self, size: int) -> Iterator[RowBlock]:
        for start in range(0, self.count, size):
            some = self._asked[start : start + size]
            inputs, truth = self._rows(some)
            yield RowBlock({_ID: [one.name for one in some]}, inputs, truth)

    def notes(self) -> list[str]:
        found, settings = [], self._settings
        if self._cut:
            room = f"{settings.windows} windows of " if settings.windows > 1 else ""
            found.append(
                f"the text of {are(self._cut, f'of {self.count:,} questions')} cut at {room}"
                f"{settings.tokens.length} tokens: what stands behind is no answer"
            )
        if self._cut_questions:
            cut = are(self._cut_questions, f"of {self.count:,} questions")
            found.append(f"{cut} cut at {settings.question} tokens")
        return found

    def _rows(self, some: Sequence[SquadQuestion]) -> tuple[Any, Any]:
        texts: dict[int, int] = {}
        numbers = [(n, texts.setdefault(one.context, len(texts))) for n, one in enumerate(some)]
        raw = QuestionTexts(
            [one.question for one in some],
            [self._contexts[place] for place in texts],
            {_NEW: np.array(numbers, np.int64)},
            {_NEW: np.full((len(some), 2), NOT_KNOWN)},
            {_NEW: [""] * len(some)},
            self._settings,
            self._no_answer,
            lambda _, row: some[row].name,
        )
        made, counts = make_rows(raw, self._tokenizer, "")
        self._cut += counts.contexts
        self._cut_questions += counts.questions
        return made[_NEW]
