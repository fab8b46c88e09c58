"""Your own texts: a folder of .txt files for each class, or a file of columns."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from kdx.core import checks
from kdx.core.errors import UserError
from kdx.data.column_files import ENDINGS, ending
from kdx.data.files import Files
from kdx.data.loading import check_path, per_class
from kdx.data.pictures.walk import PICTURES, file_ending, readable
from kdx.data.raw import Description, Note
from kdx.data.stored import Writers
from kdx.data.text import layout as folders
from kdx.data.text.rows import Part, Texts, describe_texts
from kdx.data.text.settings import token_settings
from kdx.data.text.table import TextTable, TextTables, bare, batches_of, read_text_table, tables_of

_LAYOUTS = ("auto", "parts", "classes")
_ON_ERROR = ("stop", "skip")
_TOGETHER = 4096
"""Files whose texts are held together."""


PLAIN_ENCODING = "utf-8-sig"
"""UTF-8, with or without its mark."""


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
    streams = True

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
            if os.path.isdir(self._pool):
                more = self._pool_files()
                found["more_unlabelled"] = list(zip(more.names, more.paths, strict=True))
            else:
                found["more_unlabelled"] = [(ending(self._pool)[1:], self._pool)]
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
        """Reads columns, and keeps no text; of a folder the names of its files, unless some may be
        skipped.
        """
        self.fetch()
        tables, pool = self._of_tables(), self._pool_table()
        if tables is not None:
            classes, rows = tables.classes, tables.rows()
            counts = tuple(tables.parts["train"].classes[name] for name in classes)
        else:
            classes, rows, labels = self._laid().classes, Counter[str](), []
            for part, found in self._files(opened=self._skips, skipped={}):
                rows[part] += len(found.labels)
                labels += [found.labels] if part == "train" else []
            counts = per_class(np.concatenate(labels), len(classes))
        if pool is not None:
            rows["unlabelled"] = rows.get("unlabelled", 0) + pool.rows
        elif self._pool is not None and tables is not None:
            more = self._of_files(self._pool_files(), self._skips, "", {})
            rows["unlabelled"] = rows.get("unlabelled", 0) + sum(len(found.labels) for found in more)
        return describe_texts(self._tokens, classes, rows, counts)

    def load(self, *, workers: int = 0, write: Writers | None = None) -> Texts:
        self.fetch()
        tables, pool = self._of_tables(), self._pool_table()
        skipped: dict[str, str] = {}
        batches = [self._files(True, skipped) if tables is None else tables.batches()]
        if pool is not None:
            known = () if tables is None else tables.parts.values()
            before = "unlabelled/" if pool.path.name in {one.path.name for one in known} else ""
            batches.append(("unlabelled", part) for part in batches_of(pool, {}, before))
        elif self._pool is not None and tables is not None:
            more = self._of_files(self._pool_files(), True, "", skipped)
            batches.append(("unlabelled", part) for part in more)
        classes, notes = (self._laid().classes, ()) if tables is None else (tables.classes, tables.notes)
        writer = None if write is None else write("texts", self._letters(tables, pool), (), np.uint8)
        return Texts.of(chain(*batches), classes, self._tokens, notes, skipped, writer)

    def _letters(self, tables: TextTables | None, pool: TextTable | None) -> int:
        """Bytes of all texts in UTF-8, at most."""
        read = [*(tables.parts.values() if tables else ()), *((pool,) if pool else ())]
        paths = [path for part, found in self.files().items() if part != "tokenizer" for _, path in found]
        return sum(of.letters for of in read) + 4 * sum(map(_size, paths))

    def _laid(self) -> folders.TextFolder:
        return folders.lay_out_texts(self._root, self._layout)

    def _tables(self) -> dict[str, Path]:
        """part -> its file of columns; {} where the root is a folder of texts."""
        return (
            {"train": self._root}
            if os.path.isfile(self._root)
            else folders.tables_in(self._root, self._layout)
        )

    def _pool_files(self) -> folders.TextFiles:
        """The .txt files of dataset.unlabelled_root."""
        assert self._pool is not None
        return folders.pool_in(self._pool)

    def _pool_table(self) -> TextTable | None:
        """The file of columns that dataset.unlabelled_root names."""
        if self._pool is None or os.path.isdir(self._pool):
            return None
        return read_text_table(self._pool, self._text, None, labelled=False)

    def _files(self, opened: bool, skipped: dict[str, str]) -> Iterator[tuple[str, Part]]:
        """The .txt files of the root and of the pool. opened: False leaves each unread, an empty text; those
        that are skipped are added to `skipped`, with the reason.
        """
        laid = self._laid()
        several = bool(laid.parts.keys() & {"validation", "test"})
        for part, files in laid.parts.items():
            before = f"{part}/" if several and part != "train" else ""
            for found in self._of_files(files, opened, before, skipped):
                yield part, found
        if self._pool is not None and os.path.isdir(self._pool):
            pool, there = self._pool_files(), {name for files in laid.parts.values() for name in files.names}
            before = "" if there.isdisjoint(pool.names) else "unlabelled/"
            for found in self._of_files(pool, opened, before, skipped):
                yield "unlabelled", found

    def _of_files(
        self, files: folders.TextFiles, opened: bool, before: str, skipped: dict[str, str]
    ) -> Iterator[Part]:
        """before: what is put before their names."""
        for start in range(0, len(files.paths), _TOGETHER):
            those = slice(start, start + _TOGETHER)
            texts, labels, names = [], [], []
            for path, label, name in zip(
                files.paths[those], files.labels[those], files.names[those], strict=True
            ):
                try:
                    text = self._text_in(path) if opened else ""
                except UnicodeDecodeError as error:
                    skipped[before + name] = "it " + wrong_encoding(error, self._encoding)
                    continue
                except OSError as error:
                    skipped[before + name] = f"it cannot be read: {error.strerror}"
                    continue
                texts.append(text)
                labels.append(label)
                names.append(before + name)
            yield Part(texts, np.array(labels, np.int64), names)

    def _text_in(self, path: Path) -> str:
        """UnicodeDecodeError or OSError where it is skipped."""
        try:
            return bare(path.read_bytes().decode(self._encoding))
        except UnicodeDecodeError as error:
            if self._skips:
                raise
            raise UserError(
                f"'{readable(path)}' {wrong_encoding(error, self._encoding)}; save it as UTF-8, "
                "set dataset.encoding=latin-1, say, or dataset.on_error=skip, which leaves such out"
            ) from None
        except OSError as error:
            if self._skips:
                raise
            raise UserError(
                f"'{readable(path)}' cannot be read: {error.strerror}; mend that, move it away, or set "
                "dataset.on_error=skip, which leaves such out"
            ) from None

    def _of_tables(self) -> TextTables | None:
        """None where the root is a folder of texts."""
        if not (tables := self._tables()):
            return None
        if self._encoding != PLAIN_ENCODING and (self._pool is None or os.path.isfile(self._pool)):
            raise UserError(
                f"dataset.encoding={self._encoding} is that of .txt files, and '{tables['train']}' is a file "
                "of columns, which are UTF-8: leave the key out, and save such a file as UTF-8"
            )
        read = {
            part: read_text_table(path, self._text, self._label, part != "unlabelled")
            for part, path in tables.items()
        }
        return tables_of(read)


def _size(path: Path) -> int:
    """Bytes; 0 of a file that is not there, which is said where it is read."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def check_column(key: str, value: object) -> str | None:
    """The name of a column, or None; else a UserError."""
    if value is not None and not (isinstance(value, str) and value):
        raise UserError(f"dataset.{key} must be the name of a column, or null; given: {checks.shown(value)}")
    return value


def wrong_encoding(error: UnicodeDecodeError, encoding: str) -> str:
    """What is wrong with bytes that are not of it: "is not UTF-8: its byte 3 is 0xe9" """
    called = encoding.upper().removesuffix("-SIG")
    return f"is not {called}: its byte {error.start} is 0x{error.object[error.start]:02x}"


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
