"""Files in the form of SQuAD: paragraphs, each with questions and their answers. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdx.core.errors import UserError
from kdx.core.positions import LOST, NOT_KNOWN
from kdx.data.opening import not_utf8, open_file, said
from kdx.data.phrases import few

NO_ANSWER = -3
"""In place of a letter's number: there is no answer."""
_PARTS = {"train": "train", "test": "test", "dev": "validation", "val": "validation", "valid": "validation"}
_PARTS["validation"] = "validation"


@dataclass(frozen=True)
class SquadQuestion:
    """A question. answers: the right ones; start, end: from which letter of the context to which the first
    of them reaches that stands there, the end exclusive; NOT_KNOWN: nobody knows the answer, NO_ANSWER:
    there is none, LOST: none of the answers stands where the file says."""

    name: str
    question: str
    context: int
    answers: tuple[str, ...] = ()
    start: int = NOT_KNOWN
    end: int = NOT_KNOWN


@dataclass(frozen=True)
class Paragraphs:
    """What a file holds. contexts: the texts that questions are asked of."""

    contexts: list[str] = field(default_factory=list)
    asked: list[SquadQuestion] = field(default_factory=list)


def squad_files(root: Path) -> dict[str, Path]:
    """part -> its file: of a folder train*.json, dev*.json (or val*) and test*.json. Where there is no test
    file, dev is the test part. Raises UserError where none is there to train with.
    """
    if root.is_file():
        return {"train": root}
    if not root.is_dir():
        raise UserError(
            f"dataset=squad looked for a JSON file of questions, or a folder of such, in '{root}', and there "
            "is none: set dataset.root=PATH"
        )
    names = sorted(path.name for path in root.iterdir() if path.name.lower().endswith((".json", ".json.gz")))
    if len(names) == 1:
        return {"train": root / names[0]}
    parts: dict[str, Path] = {}
    for name in names:
        word = name.lower().partition(".")[0].replace("_", "-").partition("-")[0]
        if (part := _PARTS.get(word)) is None:
            continue
        if part in parts:
            raise UserError(
                f"'{root}' holds {parts[part].name} and {name}, both to {part} with: move one away, or name "
                "one file with dataset.root=FILE"
            )
        parts[part] = root / name
    if "train" not in parts:
        raise UserError(
            f"'{root}' holds {few(names) if names else 'no .json file'}, and none is called train: call the "
            "one to train with train.json, or name it with dataset.root=FILE"
        )
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    return {part: parts[part] for part in ("train", "validation", "test") if part in parts}


def read_squad(path: Path) -> Paragraphs:
    """Raises UserError where it is not in SQuAD's form, with the place."""
    try:
        with said(path), open_file(path) as file:
            document = json.loads(file.read().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except RecursionError:
        raise UserError(f"'{path}' cannot be read: its lists lie too deep in each other") from None
    found = Paragraphs()
    for place, paragraph in _paragraphs(path, document):
        context = _text(path, f"{place}.context", paragraph.get("context"))
        found.contexts.append(context)
        for number, one in enumerate(_list(path, f"{place}.qas", paragraph.get("qas"))):
            here = f"{place}.qas[{number}]"
            found.asked.append(_asked(path, here, one, len(found.contexts) - 1, context))
    if not found.asked:
        raise UserError(f"'{path}' holds no question: {_FORM}")
    return found


_FORM = (
    'SQuAD\'s form is {"data": [{"paragraphs": [{"context": TEXT, "qas": [{"question": TEXT, "answers": '
    '[{"text": TEXT, "answer_start": NUMBER}]}]}]}]}'
)


def _paragraphs(path: Path, document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        raise UserError(f"'{path}' has no list `data` at the top: {_FORM}")
    for number, article in enumerate(data):
        place = f"data[{number}]"
        paragraphs = _object(path, place, article).get("paragraphs")
        for at, paragraph in enumerate(_list(path, f"{place}.paragraphs", paragraphs)):
            here = f"{place}.paragraphs[{at}]"
            yield here, _object(path, here, paragraph)


def _asked(path: Path, place: str, value: Any, context: int, text: str) -> SquadQuestion:
    one = _object(path, place, value)
    question = _text(path, f"{place}.question", one.get("question"))
    name = one.get("id")
    named = str(name) if isinstance(name, str | int) and str(name) else f"{place} of {path.name}"
    answers = _list(path, f"{place}.answers", one.get("answers", []))
    if one.get("is_impossible") is True:
        return SquadQuestion(named, question, context, (), NO_ANSWER, NO_ANSWER)
    if not answers:
        return SquadQuestion(named, question, context)
    words, start, end = [], LOST, LOST
    for number, given in enumerate(answers):
        here = f"{place}.answers[{number}]"
        answer = _object(path, here, given)
        word, at = _text(path, f"{here}.text", answer.get("text")), answer.get("answer_start")
        if isinstance(at, bool) or not isinstance(at, int):
            raise UserError(f"'{path}': {here}.answer_start must be a whole number; given: {at!r}")
        words.append(word)
        if start == LOST and word.strip() and at >= 0 and text[at : at + len(word)] == word:
            start, end = at, at + len(word)
    return SquadQuestion(named, question, context, tuple(dict.fromkeys(words)), start, end)


def _object(path: Path, place: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"'{path}': {place} must be an object: {_FORM}")
    return value


def _list(path: Path, place: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"'{path}': {place} must be a list: {_FORM}")
    return value


def _text(path: Path, place: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UserError(f"'{path}': {place} must be a text; given: {value!r:.40}")
    return value.encode("utf-8", "replace").decode("utf-8").replace("\0", " ")
