"""Your own sounds, as log-mel pictures: a folder of WAV files with one folder per class, or a table of files
and classes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from kdx.core import checks, path_checks, snapshot
from kdx.core.errors import UserError
from kdx.data.column_files import read_columns
from kdx.data.columns import need_column
from kdx.data.files import Files, names_apart
from kdx.data.loading import check_path, per_class
from kdx.data.phrases import counted, few
from kdx.data.pictures.layout import Layout, lay_out
from kdx.data.pictures.listing import Listing
from kdx.data.pictures.rows import Pictures, describe
from kdx.data.pictures.walk import as_text, readable
from kdx.data.raw import Description
from kdx.data.sound.mel import LogMel
from kdx.data.sound.wave_files import SOUND_FILES, UnreadableSound, read_sound
from kdx.data.stored import InMemory, Writers

_TOGETHER = 256
"""Sounds that are read together."""


class Wav:
    """WAV files of any rate and depth that scipy reads, as one grey picture each (kdx.data.sound.mel): 8 bits
    unsigned, 16, 24 and 32 bits, and float; channels are averaged.

    root: holds one folder for each class, or train/ with any of val/ and test/ that do, as of dataset=folder;
    with `table`, the folder that its files are named from. unlabelled_root: None, or a folder of sounds
    without classes. layout: see `lay_out`. table: None, or a file of columns, of which file_column names
    files and class_column their classes; a row without a class joins the pool. rate, seconds, mels, hop,
    window: see LogMel. on_error: "stop" makes a file that gives no sound a UserError that names it, "skip"
    leaves it out.
    """

    paths: ClassVar = ("root", "unlabelled_root", "table")
    streams: ClassVar = True

    def __init__(
        self,
        *,
        root: str,
        unlabelled_root: str | None,
        layout: str,
        table: str | None,
        file_column: str,
        class_column: str,
        rate: int,
        seconds: float,
        mels: int,
        hop: float,
        window: float,
        on_error: str,
    ):
        self._root = check_path("root", root)
        self._unlabelled = None if unlabelled_root is None else check_path("unlabelled_root", unlabelled_root)
        self._layout = checks.choice("dataset.layout", layout, ("auto", "parts", "classes"))
        self._table = None if table is None else path_checks.path("dataset.table", table, "a file")
        self._columns = {"file_column": file_column, "class_column": class_column}
        for key, name in self._columns.items():
            if not isinstance(name, str) or not name:
                raise UserError(
                    f"dataset.{key} must name a column of dataset.table; given {checks.shown(name)}"
                )
        self._mel = LogMel(rate, seconds, mels, hop, window)
        self._skip = checks.choice("dataset.on_error", on_error, ("stop", "skip")) == "skip"

    def files(self) -> Files:
        layout = self._lay_out()
        parts = {role: list(zip(part.names, part.paths, strict=True)) for role, part in layout.parts.items()}
        table = {"table": [(f"table{self._table.suffix}", self._table)]} if self._table else {}
        return Files(parts | table, [(text, "info") for text in layout.notes])

    def fetch(self) -> None:
        for key, folder in (("root", self._root), ("unlabelled_root", self._unlabelled)):
            if folder is not None and not os.path.isdir(folder):
                raise UserError(
                    f"dataset=wav looked for a folder of sounds in '{readable(folder)}', and there is none: "
                    f"set dataset.{key}=PATH"
                )
        if self._table and not self._table.is_file():
            raise UserError(f"the data file '{self._table}' is missing: see dataset.table")

    def describe(self) -> Description:
        """Reads every sound once, and makes no picture of it."""
        layout, unread = self._read()
        rows = {role: [p for p in part.paths if p not in unread] for role, part in layout.parts.items()}
        train = layout.parts["train"]
        labels = [label for path, label in zip(train.paths, train.labels, strict=True) if path not in unread]
        return describe(
            self._mel.shape,
            layout.classes,
            len(labels),
            per_class(np.array(labels, np.int64), len(layout.classes)),
            len(rows["test"]) if "test" in rows else None,
            len(rows.get("unlabelled", ())),
            test_size_is_a_fallback=True,
            validation=len(rows["validation"]) if "validation" in rows else None,
        )

    def load(self, *, workers: int = 0, write: Writers = InMemory) -> Pictures:
        layout, unread = self._read()
        pictures: dict[str, Any] = {}
        labels: dict[str, np.ndarray] = {}
        names: dict[str, list[str]] = {}
        parts = layout.parts.items()
        distinct = names_apart(
            {role: part.names for role, part in parts}, {role: role for role in layout.parts}
        )
        called = {
            path: as_text(name)
            for role, part in parts
            for path, name in zip(part.paths, distinct[role], strict=True)
        }
        for role, part in parts:
            fine = part.only([i for i, path in enumerate(part.paths) if path not in unread])
            writer = write(role, len(fine.paths), self._mel.shape, np.uint8)
            for block in self._pictures(fine.paths, workers):
                writer.append(block)
            pictures[role], labels[role] = writer.close(), np.array(fine.labels, np.int64)
            names[role] = [called[path] for path in fine.paths]
        found = Pictures(
            pictures["train"],
            labels["train"],
            layout.classes,
            pictures.get("test"),
            labels.get("test"),
            pictures.get("unlabelled"),
            {called[path]: why for path, why in unread.items()},
            pictures.get("validation"),
            labels.get("validation"),
            names=names,
        )
        return replace(found, noun="sound")

    def _pictures(self, paths: Sequence[Path], workers: int) -> Iterator[np.ndarray]:
        """(n, 1, mels, frames) uint8, block by block"""

        def one(path: Path) -> np.ndarray:
            return self._mel.picture(*read_sound(path, self._mel.window))

        with ThreadPoolExecutor(max(workers, 1)) as pool:
            for start in range(0, len(paths), _TOGETHER):
                yield np.stack(list(pool.map(one, paths[start : start + _TOGETHER])))

    def _read(self) -> tuple[Layout, Mapping[Path, str]]:
        """(what lies where, why of each that gives no sound, where such are skipped). Raises UserError."""
        layout = self._lay_out()
        unread: dict[Path, str] = {}
        for role, part in layout.parts.items():
            bad = {path: why for path in part.paths if (why := self._wrong(path))}
            if bad and not self._skip:
                path, why = next(iter(bad.items()))
                more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
                raise UserError(
                    f"the sound '{readable(path)}'{more} cannot be read: {why}; remove it, or set "
                    "dataset.on_error=skip"
                )
            if part.paths and len(bad) == len(part.paths):
                path, why = next(iter(bad.items()))
                raise UserError(
                    f"not one of {counted(len(bad), 'sound')} of the {role} part can be read; the first is "
                    f"'{readable(path)}': {why}"
                )
            unread |= bad
        train = layout.parts["train"]
        left = {label for path, label in zip(train.paths, train.labels, strict=True) if path not in unread}
        if gone := [name for place, name in enumerate(layout.classes) if place not in left]:
            raise UserError(f"no sound of the class '{gone[0]}' in '{readable(self._root)}' can be read")
        return layout, unread

    def _wrong(self, path: Path) -> str:
        """Why a file gives no sound, "" where it does. A command reads a file once for that."""

        def look() -> str:
            try:
                read_sound(path, self._mel.window)
            except UnreadableSound as error:
                return str(error)
            return ""

        key = ("sound", path, self._mel.window)
        return snapshot.while_same(key, str(path), look, lambda found: True)

    def _lay_out(self) -> Layout:
        """A command finds it out once."""
        self.fetch()
        asked = (os.path.abspath(self._root), str(self._unlabelled), self._layout, str(self._table))
        key = ("sounds", *asked, *self._columns.values())
        return snapshot.once(key, self._listed if self._table else self._laid_out)

    def _laid_out(self) -> Layout:
        return lay_out(self._root, self._unlabelled, self._layout, SOUND_FILES)

    def _listed(self) -> Layout:
        """The files and classes of the table."""
        assert self._table is not None
        columns = read_columns(self._table, as_text=list(self._columns.values()))
        for key, name in self._columns.items():
            need_column(self._table, list(columns), name, f"dataset.{key}")
        files, found = (columns[name].text() for name in self._columns.values())
        labels = [(word or "").strip() for word in found]
        classes = tuple(sorted(set(labels) - {""}))
        if len(classes) < 2:
            raise UserError(
                f"'{self._table}' names {len(classes)} classes in its column "
                f"{self._columns['class_column']}, and two are needed at least"
            )
        paths = [self._root / (name or "") for name in files]
        if missing := [str(name) for name, path in zip(files, paths, strict=True) if not path.is_file()]:
            raise UserError(
                f"'{self._table}' names {counted(len(missing), 'file')} that "
                f"{'is' if len(missing) == 1 else 'are'} not in '{readable(self._root)}': {few(missing)}; "
                "see dataset.root"
            )
        whole = Listing(
            tuple(paths),
            tuple(classes.index(name) if name else -1 for name in labels),
            tuple(str(name) for name in files),
        )
        known = [i for i, label in enumerate(whole.labels) if label >= 0]
        rest = [i for i, label in enumerate(whole.labels) if label < 0]
        parts = {"train": whole.only(known)} | ({"unlabelled": whole.only(rest)} if rest else {})
        return Layout(classes, parts, ())
