"""Your own pictures: a folder with one folder per class, or `train/` and `test/` of that kind."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core import checks, snapshot
from kdx.core.errors import UserError
from kdx.data.column_files import ending
from kdx.data.files import Files
from kdx.data.loading import check_int, check_path, per_class
from kdx.data.phrases import counted
from kdx.data.pictures import findings
from kdx.data.pictures.decode import Decoder, Reading
from kdx.data.pictures.header import Header, are_grey
from kdx.data.pictures.layout import Layout, lay_out
from kdx.data.pictures.listing import Listing
from kdx.data.pictures.rows import SAMPLED_PICTURES, Pictures, describe
from kdx.data.pictures.walk import as_text, files_left_out, readable
from kdx.data.raw import MEANING, Description, Note
from kdx.data.stored import InMemory, StoredRows, Writers

LAYOUTS = ("auto", "parts", "classes")


@dataclass(frozen=True)
class _Scan:
    """parts: less the pictures that cannot be opened, which are `unread`, with the reason of each; headers:
    of all in them; called: what each picture is called.
    """

    layout: Layout
    parts: Mapping[str, Listing]
    headers: tuple[Header, ...]
    unread: Mapping[str, str]
    called: Mapping[Path, str]


class Folder:
    """Pictures of any size and format that Pillow reads, as `image_size` squares of bytes.

    root: holds one folder for each class (pictures may lie deeper inside it), or parts that do: `train/` with
    any of `val/` and `test/`, called so or alike (`kdx.data.pictures.layout`). layout: "auto", "parts" or
    "classes": see `lay_out` there. unlabelled_root: None, or a folder of pictures without classes, nested as
    you like; it may lie inside root. Hidden files are ignored. The pictures have one channel if every one of
    them is grey, else three. image_size, fit, background: see kdx.data.pictures.square. range, max_pixels,
    on_error: see kdx.data.pictures.decode; what is skipped is listed in `Raw.skipped`. A picture is called by
    its part and its place in that, as its key has it, wherever the folder lies and whatever it is called.
    encoded: whether pictures stay in their files and are decoded as they are shown
    (kdx.data.pictures.encoded); "auto": where decoded they would take more than `memory` bytes.
    """

    streams = True

    def __init__(
        self,
        *,
        root: str,
        unlabelled_root: str | None,
        layout: str,
        image_size: int,
        fit: str,
        background: Any,
        range: Any,
        max_pixels: int,
        on_error: str,
        encoded: Any,
        memory: int,
    ):
        self._root = check_path("root", root)
        self._unlabelled = None if unlabelled_root is None else check_path("unlabelled_root", unlabelled_root)
        self._layout = checks.choice("dataset.layout", layout, LAYOUTS)
        self._encoded = (
            encoded if encoded == "auto" else checks.flag("dataset.encoded", encoded, words=["auto"])
        )
        self._memory = check_int("memory", memory, 0, 2**62)
        self._decoder = Decoder(
            image_size=image_size,
            fit=fit,
            background=background,
            range=range,
            max_pixels=max_pixels,
            on_error=on_error,
        )

    def files(self) -> Files:
        """What is read, and nothing else."""
        layout, notes = self._lay_out()
        return Files(
            {role: list(zip(part.names, part.paths, strict=True)) for role, part in layout.parts.items()},
            notes,
        )

    def fetch(self) -> None:
        for key, folder in (("root", self._root), ("unlabelled_root", self._unlabelled)):
            if folder is not None and not os.path.isdir(folder):
                several = [part for part in str(folder).split(",") if os.path.isdir(part.strip())]
                remedy = f"set dataset.{key}=PATH"
                if several:
                    remedy = (
                        f"'{readable(several[0])}' is one, and to run several takes a sweep: kdx train -m"
                    )
                elif os.path.isfile(folder):
                    remedy = (
                        "it is a file of columns; texts in such a file are read by dataset=text"
                        if ending(folder)
                        else f"it is a file: unpack it, if it is an archive, and {remedy}"
                    )
                raise UserError(
                    f"dataset=folder looked for a folder of pictures in '{readable(folder)}', "
                    f"and there is none: {remedy}"
                )

    def describe(self) -> Description:
        """Reads the header of every picture, and decodes none."""
        scan = self._scan(workers=0)
        rows = {role: len(part.paths) for role, part in scan.parts.items()}
        classes = scan.layout.classes
        found = describe(
            (1 if are_grey(scan.headers) else 3, self._decoder.square.size, self._decoder.square.size),
            classes,
            rows["train"],
            per_class(np.array(scan.parts["train"].labels, np.int64), len(classes)),
            rows.get("test"),
            rows.get("unlabelled", 0),
            test_size_is_a_fallback=True,
            validation=rows.get("validation"),
        )
        return replace(found, cheap=not self._stays(scan, found.shape or ()))

    def load(self, *, workers: int = 0, write: Writers = InMemory) -> Pictures:
        """workers: threads that decode, 0 for none; the result is the same for any number."""
        scan = self._scan(workers)
        reading = self._decoder.reading(scan.headers, workers)
        if self._stays(scan, self._decoder.shape(reading)):
            return self._undecoded(scan, reading, workers)
        skipped, names, made = dict(scan.unread), {}, []

        def decode(role: str) -> tuple[np.ndarray | StoredRows | None, np.ndarray | None]:
            if role not in scan.parts:
                return None, None
            part = scan.parts[role]
            writer = write(role, len(part.paths), self._decoder.shape(reading), np.uint8)
            made.append(self._decoder.decode(part.paths, reading, workers, writer))
            skipped.update({scan.called[path]: why for path, why in made[-1].skipped.items()})
            names[role] = [
                scan.called[path] for path, fine in zip(part.paths, made[-1].good, strict=True) if fine
            ]
            return made[-1].images, np.array(part.labels, np.int64)[made[-1].good]

        images, labels = decode("train")
        self._none_lost(scan.layout, labels)
        (test_images, test_labels), (pool_images, _), (validation_images, validation_labels) = map(
            decode, ("test", "unlabelled", "validation")
        )
        found = list(findings.of_files(self._decoder, reading, made, scan.called.__getitem__))
        transparent = frozenset(scan.called[header.path] for header in scan.headers if header.transparent)
        sizes = np.array([header.size for header in scan.headers], np.int64).reshape(-1, 2)
        return Pictures(
            images,
            labels,
            scan.layout.classes,
            test_images,
            test_labels,
            pool_images,
            skipped,
            validation_images,
            validation_labels,
            tuple(found),
            sizes,
            names,
            findings.findings_report(reading, self._decoder.square, found),
            transparent,
        )

    def _stays(self, scan: _Scan, shape: Sequence[int]) -> bool:
        """Whether pictures are decoded as they are shown, and not beforehand. shape: of one, decoded."""
        if self._encoded != "auto":
            return bool(self._encoded)
        rows = sum(len(part.paths) for part in scan.parts.values())
        return rows * int(np.prod(shape)) > self._memory

    def _undecoded(self, scan: _Scan, reading: Reading, workers: int) -> Pictures:
        """Where pictures that do not decode are skipped, each is decoded once, to know them."""
        parts, skipped, made = dict(scan.parts), dict(scan.unread), []
        for role, part in scan.parts.items():
            if tried := self._decoder.tried(part.paths, reading, workers):
                made.append(tried)
                skipped |= {scan.called[path]: why for path, why in tried.skipped.items()}
                parts[role] = part.only(np.flatnonzero(tried.good).tolist())
        self._none_lost(scan.layout, np.array(parts["train"].labels, np.int64))
        roots = {"root": self._root}
        roots |= {"unlabelled_root": self._unlabelled} if self._unlabelled else {}
        found = self._decoder.undecoded(reading, {role: part.paths for role, part in parts.items()}, roots)
        labels = {role: np.array(part.labels, np.int64) for role, part in parts.items()}
        rows = sum(map(len, found.values()))
        notes = (
            (
                f"{counted(rows, 'picture')} stay in their files and are decoded as they are shown "
                "(dataset.encoded): equal and constant ones are not looked for, and mean and deviation are "
                f"those of {SAMPLED_PICTURES:,} at most of each split",
                "info",
            ),
            *findings.of_files(self._decoder, reading, made, scan.called.__getitem__),
        )
        return Pictures(
            found["train"],
            labels["train"],
            scan.layout.classes,
            found.get("test"),
            labels.get("test"),
            found.get("unlabelled"),
            skipped,
            found.get("validation"),
            labels.get("validation"),
            notes,
            np.array([header.size for header in scan.headers], np.int64).reshape(-1, 2),
            {role: [scan.called[path] for path in part.paths] for role, part in parts.items()},
            findings.findings_report(reading, self._decoder.square, notes),
        )

    def _lay_out(self) -> tuple[Layout, list[Note]]:
        """What lies where, less what is skipped as no picture at all, and what there is to tell of that. A
        command finds it out once.
        """
        self.fetch()
        asked = (os.path.abspath(self._root), self._unlabelled and os.path.abspath(self._unlabelled))
        key = ("layout", *asked, str(self._root), self._layout, self._decoder.refuses)
        return snapshot.once(key, self._laid_out)

    def _laid_out(self) -> tuple[Layout, list[Note]]:
        layout = lay_out(self._root, self._unlabelled, self._layout)
        notes, parts, gone = [(text, "info") for text in layout.notes], {}, []
        for role, part in layout.parts.items():
            strange = self._decoder.strangers(part.paths)
            parts[role] = (
                part.only([i for i, path in enumerate(part.paths) if path not in strange])
                if strange
                else part
            )
            gone += [str(path) for path in part.paths if path in strange]
            if strange and not parts[role].paths:
                raise UserError(
                    f"not one of {counted(len(part.paths), 'file')} {MEANING[role]} is a picture of a kind "
                    f"that Pillow knows; the first is '{readable(part.paths[0])}'"
                )
            for number in sorted(set(part.labels) - set(parts[role].labels)) if role == "train" else ():
                first = part.paths[part.labels.index(number)]
                raise UserError(
                    f"no file of the class '{layout.classes[number]}' is a picture of a kind that Pillow "
                    f"knows; the first is '{readable(first)}': {strange[first]}"
                )
        if gone:
            notes.append(
                (
                    files_left_out(gone, "that Pillow knows for no kind of picture"),
                    "warning",
                )
            )
        return replace(layout, parts=parts), notes

    def _scan(self, workers: int) -> _Scan:
        layout, _ = self._lay_out()
        parts, opened, unread, called = {}, [], {}, {}
        several = bool(layout.parts.keys() & {"validation", "test"})
        for role, part in layout.parts.items():
            headers = self._decoder.headers(part.paths, workers)
            called |= {
                path: as_text(name if role == "train" and not several else f"{role}/{name}")
                for path, name in zip(part.paths, part.names, strict=True)
            }
            unread |= {
                called[path]: found
                for path, found in zip(part.paths, headers, strict=True)
                if isinstance(found, str)
            }
            fine = {i: found for i, found in enumerate(headers) if isinstance(found, Header)}
            opened += fine.values()
            parts[role] = part.only(list(fine))
        self._none_lost(layout, np.array(parts["train"].labels, np.int64))
        return _Scan(layout, parts, tuple(opened), unread, called)

    def _none_lost(self, layout: Layout, labels: np.ndarray) -> None:
        """A UserError where a class has pictures, and none of them can be read. labels: of those that can."""
        count = len(layout.classes)
        listed, read = (
            per_class(np.array(layout.parts["train"].labels, np.int64), count),
            per_class(labels, count),
        )
        for name, before, after in zip(layout.classes, listed, read, strict=True):
            if before and not after:
                raise UserError(f"no picture of the class '{name}' in '{readable(self._root)}' decodes")
