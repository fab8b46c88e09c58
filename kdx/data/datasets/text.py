"""Your own texts: a folder of .txt files for each class, or a file of columns."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdx.core import checks
from kdx.core.errors import UserError, nearest
from kdx.data.column_files import ENDINGS, ending
from kdx.data.files import Files
from kdx.data.loading import check_path
from kdx.data.phrases import few
from kdx.data.pictures.walk import PICTURES, file_ending, readable
from kdx.data.raw import Description, Note
from kdx.data.text import layout as folders
from kdx.data.text.rows import Part, Texts, describe_texts
from kdx.data.text.settings import token_settings
from kdx.data.text.table import read_text_table, sorted_classes

_LAYOUTS = ("auto", "parts", "classes")
_ON_ERROR = ("stop", "skip")


PLAIN_ENCODING = "utf-8-sig"
"""UTF-8, with or without its mark."""


@dataclass(frozen=True)
class _Read:
    classes: Sequence[str]
    parts: Mapping[str, Part]
    notes: Sequence[Note]
    skipped: Sequence[str] = ()


class Text:
    """Texts with one class each, and a pool of such without.

    root: a folder that holds a folder of .txt files for each class, or `train/` and maybe `val/` and `test/`
    of that kind (in it `unsup/`, as IMDb has it, is the pool); or a file of columns, or a folder with
    train.csv, test.csv and the like. unlabelled_root: None, or a folder of .txt files or a file of columns
    for the pool. layout: as for pictures. text, label: names of columns, None: found by their names; rows
    without a class are the pool. encoding: of the .txt files; on_error: what is done with one that cannot be
    read by it, "stop" or "skip". tokens, vocabulary, min_frequency, lower, length,
    tokenizer: see kdx.data.text.tokens.Tokens.
    """

    paths = ("root", "unlabelled_root", "tokenizer")

    def __init__(
        self,
        *,
        root: str,
        unlabelled_root: str | None,
        layout: str,
        text: str | None,
        label: str | None,
        encoding: str,
        on_error: str,
        tokens: str,
        vocabulary: int,
        min_frequency: int,
        lower: bool,
        length: int,
        tokenizer: str | None,
    ):
        self._root = check_path("root", root)
        self._pool = None if unlabelled_root is None else check_path("unlabelled_root", unlabelled_root)
        self._layout = checks.choice("dataset.layout", layout, _LAYOUTS)
        self._text, self._label = check_column("text", text), check_column("label", label)
        self._encoding = check_encoding(encoding)
        self._skips = checks.choice("dataset.on_error", on_error, _ON_ERROR) == "skip"
        self._tokens = token_settings(tokens, vocabulary, min_frequency, lower, length, tokenizer)

    def files(self) -> Files:
        """What is read, and nothing else, each file by its part and its place in that."""
        self.fetch()
        found: dict[str, list[tuple[str, Path]]] = {}
        notes: list[Note] = []
        if tables := self._tables():
            found |= {part: [(ending(path)[1:], path)] for part, path in tables.items()}
        else:
            laid = folders.lay_out_texts(self._root, self._layout)
            found |= {part: list(zip(of.names, of.paths, strict=True)) for part, of in laid.parts.items()}
            notes += [(text, "info") for text in laid.notes]
        if self._pool is not None:
            more = self._pool_files()
            found["more_unlabelled"] = (
                [(ending(self._pool)[1:], self._pool)]
                if more is None
                else list(zip(more.names, more.paths, strict=True))
            )
        if self._tokens.file is not None:
            found["tokenizer"] = [("tokenizer.json", self._tokens.file)]
        return Files(found, notes)

    def fetch(self) -> None:
        for key, place in (("root", self._root), ("unlabelled_root", self._pool)):
            if place is None or os.path.isdir(place) or (os.path.isfile(place) and ending(place)):
                continue
            kinds = f"a folder of texts, or a file that ends with {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
            if not os.path.exists(place):
                raise UserError(
                    f"dataset=text looked for {kinds} in '{readable(place)}', and there is none: set "
                    f"dataset.{key}=PATH"
                )
            picture = ", a picture, which dataset=folder reads" if file_ending(place.name) in PICTURES else ""
            raise UserError(f"dataset.{key}='{readable(place)}' is no {kinds[2:]}{picture}")
        self._tokens.check_file()

    def describe(self) -> Description:
        """Reads columns; of a folder the names of its files, unless some may be skipped."""
        found = self._read(opened=self._skips)
        return describe_texts(self._tokens, found.classes, found.parts)

    def load(self, *, workers: int = 0) -> Texts:
        found = self._read(opened=True)
        return Texts.of(found.parts, found.classes, self._tokens, found.notes, found.skipped)

    def _tables(self) -> dict[str, Path]:
        """part -> its file of columns; {} where the root is a folder of texts."""
        return (
            {"train": self._root}
            if os.path.isfile(self._root)
            else folders.tables_in(self._root, self._layout)
        )

    def _pool_files(self) -> folders.TextFiles | None:
        """The .txt files of dataset.unlabelled_root; None where that is a file of columns."""
        assert self._pool is not None
        return folders.pool_in(self._pool) if os.path.isdir(self._pool) else None

    def _read(self, opened: bool) -> _Read:
        """opened: False leaves each .txt file unread, an empty text."""
        self.fetch()
        found = self._of_tables(tables) if (tables := self._tables()) else self._of_folder(opened)
        if self._pool is None:
            return found
        more = self._pool_files()
        skipped: list[str] = []
        if more is None:
            table = read_text_table(self._pool, self._text, None, labelled=False)
            names = [f"row {row} of {self._pool.name}" for row in range(1, len(table.texts) + 1)]
            part = Part([_bare(text) for text in table.texts], np.full(len(names), -1, np.int64), names)
        else:
            part = self._opened(more, opened, "", skipped)
        pool = [found.parts["unlabelled"]] if "unlabelled" in found.parts else []
        parts = {**found.parts, "unlabelled": _joined([*pool, part])}
        return _Read(found.classes, parts, found.notes, [*found.skipped, *skipped])

    def _of_folder(self, opened: bool) -> _Read:
        laid = folders.lay_out_texts(self._root, self._layout)
        several = bool(laid.parts.keys() & {"validation", "test"})
        skipped: list[str] = []
        parts = {
            part: self._opened(files, opened, f"{part}/" if several and part != "train" else "", skipped)
            for part, files in laid.parts.items()
        }
        return _Read(laid.classes, parts, [], skipped)

    def _opened(self, files: folders.TextFiles, opened: bool, before: str, skipped: list[str]) -> Part:
        """The texts of files; names of those that are skipped are added to `skipped`."""
        texts, labels, names = [], [], []
        for path, label, name in zip(files.paths, files.labels, files.names, strict=True):
            text = self._text_in(path) if opened else ""
            if text is None:
                skipped.append(before + name)
                continue
            texts.append(text)
            labels.append(label)
            names.append(before + name)
        return Part(texts, np.array(labels, np.int64), names)

    def _text_in(self, path: Path) -> str | None:
        """None where it is skipped."""
        try:
            return _bare(path.read_bytes().decode(self._encoding))
        except UnicodeDecodeError as error:
            if self._skips:
                return None
            byte, called = error.object[error.start], self._encoding.upper().removesuffix("-SIG")
            raise UserError(
                f"'{readable(path)}' is not {called}: its byte {error.start} is 0x{byte:02x}; save it as "
                "UTF-8, set dataset.encoding=latin-1, say, or dataset.on_error=skip, which leaves such out"
            ) from None
        except OSError as error:
            raise UserError(f"'{readable(path)}' cannot be read: {error.strerror}") from None

    def _of_tables(self, tables: Mapping[str, Path]) -> _Read:
        if self._encoding != PLAIN_ENCODING and (self._pool is None or os.path.isfile(self._pool)):
            raise UserError(
                f"dataset.encoding={self._encoding} is that of .txt files, and '{tables['train']}' is a file "
                "of columns, which are UTF-8: leave the key out, and save such a file as UTF-8"
            )
        read = {
            part: read_text_table(path, self._text, self._label, part != "unlabelled")
            for part, path in tables.items()
        }
        counted = Counter(name for name in read["train"].classes if name is not None)
        classes = sorted_classes(counted)
        if len(classes) < 2:
            raise UserError(
                f"the column '{read['train'].names[1]}' of '{tables['train']}' names {len(classes)} "
                f"class{'es' * (len(classes) != 1)}, and two are needed: name another with "
                "dataset.label=COLUMN"
            )
        if len(classes) > max(100, len(read["train"].texts) // 2):
            raise UserError(
                f"the column '{read['train'].names[1]}' of '{tables['train']}' names {len(classes):,} "
                f"classes in {len(read['train'].texts):,} rows ({few(classes)}): name another with "
                "dataset.label=COLUMN"
            )
        numbers = {name: number for number, name in enumerate(classes)}
        text, label = read["train"].names
        notes: list[Note] = [(f"texts are in the column '{text}', classes in '{label}'", "info")]
        parts: dict[str, Part] = {}
        pool: list[Part] = []
        for part, table in read.items():
            if strange := sorted({name for name in table.classes if name is not None} - set(classes)):
                raise UserError(
                    f"'{tables[part]}' has rows of a class that the part to train with does not have"
                    f"{nearest(strange[0], classes)}"
                )
            labels = np.array([-1 if name is None else numbers[name] for name in table.classes], np.int64)
            names = [f"row {row} of {tables[part].name}" for row in range(1, len(labels) + 1)]
            whole = Part([_bare(text) for text in table.texts], labels, names)
            bare = int((labels < 0).sum())
            if part == "unlabelled":
                pool.append(whole)
                continue
            parts[part] = _picked(whole, np.flatnonzero(labels >= 0))
            if bare and part == "train":
                pool.append(_picked(whole, np.flatnonzero(labels < 0)))
                notes.append((f"{bare:,} rows without a class are the pool", "info"))
            elif bare:
                notes.append((f"{bare:,} rows of the {part} part have no class, and are left out", "warning"))
        if pool:
            parts["unlabelled"] = _joined(pool)
        return _Read(classes, parts, notes)


def check_column(key: str, value: object) -> str | None:
    """The name of a column, or None; else a UserError."""
    if value is not None and not (isinstance(value, str) and value):
        raise UserError(f"dataset.{key} must be the name of a column, or null; given: {checks.shown(value)}")
    return value


def check_encoding(value: object) -> str:
    """The name of an encoding that Python knows, of UTF-8 with or without its mark; else a UserError."""
    try:
        if isinstance(value, str) and "a".encode(value):
            return PLAIN_ENCODING if value.lower() in ("utf-8", "utf8") else value
    except (LookupError, UnicodeError):
        pass
    raise UserError(
        f"dataset.encoding must be an encoding such as utf-8 or latin-1; given: {checks.shown(value)}"
    )


def _picked(part: Part, rows: np.ndarray) -> Part:
    """These rows."""
    return Part([part.texts[i] for i in rows], part.labels[rows], [part.names[i] for i in rows])


def _joined(parts: Sequence[Part]) -> Part:
    """One after the other."""
    return Part(
        [text for part in parts for text in part.texts],
        np.concatenate([part.labels for part in parts]),
        [name for part in parts for name in part.names],
    )


def _bare(text: str | None) -> str:
    """A text without the spaces around it; an empty one where there is none."""
    return "" if text is None else text.strip()
