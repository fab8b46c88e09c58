"""Your own questions whose answers are pieces of a text, in the form of SQuAD (Rajpurkar et al. 2016, arXiv
1606.05250; with questions that have no answer 2018, arXiv 1806.03822).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kdx.core.errors import UserError
from kdx.core.positions import LOST, NOT_KNOWN
from kdx.data.loading import check_int, check_path
from kdx.data.phrases import counted, few
from kdx.data.raw import Description, Note
from kdx.data.text.settings import token_settings
from kdx.data.text.span_rows import SpanSettings
from kdx.data.text.spans import Questions, describe_questions
from kdx.data.text.squad import NO_ANSWER, SquadQuestion, read_squad, squad_files

_Rows = list[tuple[SquadQuestion, str]]


class Squad:
    """A row is a question with its text. root: a JSON file, or a folder with train*.json and maybe dev*.json
    and test*.json. Questions of the part to train with that have no answer, and are not marked as
    impossible, are the pool. length: tokens of a row; question_length: of a question at most; answer_length:
    of an answer at most. windows: of a row at most, where a text is longer than one; stride: tokens of the
    text from the beginning of one to that of the next, None: a third of the length. tokens, vocabulary,
    min_frequency, lower, tokenizer: see kdx.data.text.tokens.Tokens.
    """

    paths = ("root", "tokenizer")

    def __init__(
        self,
        *,
        root: str,
        tokens: str,
        vocabulary: int,
        min_frequency: int,
        lower: bool,
        length: int,
        question_length: int,
        answer_length: int,
        tokenizer: str | None,
        windows: int = 1,
        stride: int | None = None,
    ):
        self._root = check_path("root", root)
        found = token_settings(tokens, vocabulary, min_frequency, lower, length, tokenizer)
        check_int("length", length, 3, 16_384)
        question = check_int("question_length", question_length, 1, 16_384)
        if question > length - 2:
            raise UserError(
                f"dataset.question_length={question} leaves no room for a text in rows of dataset.length="
                f"{length} tokens: {length - 2} at most"
            )
        longest = min(length, check_int("answer_length", answer_length, 1, 16_384))
        many = check_int("windows", windows, 1, 256)
        if stride is not None and many == 1:
            raise UserError(
                f"dataset.stride={stride} is from one window to the next, and there is one: set "
                "dataset.windows=4, say, or leave it out"
            )
        step = max(1, length // 3) if stride is None else check_int("stride", stride, 1, length)
        self._settings = SpanSettings(found, question, longest, many, step)

    def files(self) -> dict[str, list[tuple[str, Path]]]:
        found = {part: [(path.suffix[1:], path)] for part, path in squad_files(self._root).items()}
        file = self._settings.tokens.file
        return found | ({"tokenizer": [("tokenizer.json", file)]} if file else {})

    def fetch(self) -> None:
        squad_files(self._root)
        self._settings.tokens.check_file()

    def describe(self) -> Description:
        parts, _ = self._read()
        none = any(one.start == NO_ANSWER for rows in parts.values() for one, _ in rows)
        return describe_questions(self._settings, none, {part: len(rows) for part, rows in parts.items()})

    def load(self, *, workers: int = 0) -> Questions:
        parts, notes = self._read()
        return Questions.of(parts, self._settings, notes)

    def _read(self) -> tuple[dict[str, _Rows], list[Note]]:
        """(part -> its questions with their texts, what there is to say of them)"""
        self.fetch()
        parts: dict[str, _Rows] = {}
        notes: list[Note] = []
        for part, path in squad_files(self._root).items():
            found = read_squad(path)
            rows = [(one, found.contexts[one.context]) for one in found.asked]
            known = [row for row in rows if row[0].start != NOT_KNOWN]
            unknown = [row for row in rows if row[0].start == NOT_KNOWN]
            if not known:
                raise UserError(f"'{path}' has no question with an answer: there is nothing to {_FOR[part]}")
            parts[part] = known
            notes += _remarks(path, known)
            if unknown and part == "train":
                parts["unlabelled"] = unknown
            if unknown:
                asked, are = counted(len(unknown), "question"), "is" if len(unknown) == 1 else "are"
                joins = "the pool" if part == "train" else "left out"
                notes.append((f"{asked} of {path.name} without an answer {are} {joins}", "info"))
        return parts, notes


_FOR = {"train": "train with", "validation": "validate with", "test": "test with"}


def _remarks(path: Path, rows: _Rows) -> Iterator[Note]:
    if lost := [one.name for one, _ in rows if one.start == LOST]:
        yield (
            f"in {path.name} no answer to {counted(len(lost), 'question')} stands where answer_start says "
            f"({few(lost)}): they teach nothing, and are measured by their words",
            "warning",
        )
    for empty, what in (
        ([one.name for one, _ in rows if not one.question.strip()], "an empty question"),
        ([one.name for one, text in rows if not text.strip()], "an empty text"),
    ):
        if empty:
            rows, have = counted(len(empty), "row"), "has" if len(empty) == 1 else "have"
            yield f"in {path.name} {rows} {have} {what} ({few(empty)})", "warning"
