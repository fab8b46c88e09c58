"""Files and folders of pictures listed, whatever lies among them and however they are called. A command lists
each folder once, and opens no file here.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdx.core import snapshot
from kdx.core.errors import UserError, printable
from kdx.data.phrases import by_kind, counted

NO_PICTURES = {
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "picasa.ini",
    "__macosx",
    "@eadir",
    "__pycache__",
    "$recycle.bin",
    "lost+found",
    "icon\r",
}
"""What systems and tools leave in folders of pictures, beside hidden files."""
OTHER_KINDS = {
    "txt",
    "csv",
    "tsv",
    "json",
    "jsonl",
    "xml",
    "yaml",
    "yml",
    "md",
    "rst",
    "html",
    "htm",
    "pdf",
    "doc",
    "docx",
    "xls",
    "xlsx",
    "py",
    "ipynb",
    "m",
    "mat",
    "npy",
    "npz",
    "pkl",
    "pickle",
    "pt",
    "pth",
    "h5",
    "hdf5",
    "parquet",
    "zip",
    "tar",
    "gz",
    "tgz",
    "7z",
    "rar",
    "db",
    "sqlite",
    "ini",
    "cfg",
    "log",
    "tmp",
    "part",
    "bak",
    "sh",
    "bat",
    "lnk",
    "url",
    "md5",
    "sha256",
    "aae",
    "xmp",
    "svg",
    "mp4",
    "mov",
    "avi",
    "mkv",
    "webm",
    "m4v",
    "mp3",
    "wav",
    "crdownload",
    "download",
    "swp",
    "swo",
    "orig",
    "cache",
    "info",
    "onnx",
    "safetensors",
    "db-wal",
    "db-shm",
    "ffs_db",
}
"""Endings of files that are no pictures, as one with "~" is none. One of any other ending, or of none, is
taken for a picture.
"""
PICTURES = {
    "jpg",
    "jpeg",
    "jpe",
    "jfif",
    "png",
    "bmp",
    "gif",
    "tif",
    "tiff",
    "webp",
    "avif",
    "jp2",
    "tga",
    "pbm",
    "pgm",
    "ppm",
    "pnm",
}
"""Endings that say that a file is meant for a picture that Pillow reads."""


@dataclass(frozen=True)
class Sought:
    """What files a folder is looked through for. noun: one of them, in sentences. meant: endings that say
    that a file is one. others: endings of files that are none; None: all but those that are meant."""

    noun: str
    meant: Collection[str]
    others: Collection[str] | None

    def is_other(self, name: str) -> bool:
        """Whether the name says that it is none."""
        ending = file_ending(name)
        return name.endswith("~") or (
            ending not in self.meant if self.others is None else ending in self.others
        )


PICTURE_FILES = Sought("picture", PICTURES, OTHER_KINDS)


class Walk:
    """Looks into folders, passing over hidden files and the folder of the pool, and keeps count of what else
    was left out.
    """

    def __init__(self, pool: Path | None, sought: Sought = PICTURE_FILES):
        self.sought, self.noun = sought, sought.noun
        self._pool = None if pool is None else os.path.realpath(pool)
        self._notes: dict[str, None] = {}
        self._left_out: dict[str, None] = {}

    def note(self, text: str) -> None:
        self._notes[text] = None

    def reported(self) -> list[str]:
        left = list(self._left_out)
        if left:
            self.note(files_left_out(left, f"whose names say that they are no {self.noun}s"))
        return list(self._notes)

    def texts(self) -> list[str]:
        """Those left out that are texts."""
        return [path for path in self._left_out if file_ending(path) == "txt"]

    def folders(self, folder: Path) -> list[Path]:
        found = [folder / name for name in _listed(folder)[0]]
        return [path for path in found if self._pool is None or os.path.realpath(path) != self._pool]

    def pool_is_within(self, folder: Path) -> bool:
        return self._pool is not None and os.path.dirname(self._pool) == os.path.realpath(folder)

    def files(self, folder: Path) -> list[str]:
        return list(_listed(folder)[1])

    def pictures(self, folder: Path) -> list[Path]:
        """Every file below that may be a picture, or what else is sought, in order of name; links are
        followed, and each folder is entered once.
        """
        found = []
        for path in self._below(folder):
            if self.sought.is_other(path.name):
                self._left_out[str(path)] = None
            else:
                found.append(path)
        return found

    def any(self, folder: Path) -> bool:
        """Whether there is such a file."""
        return any(not self.sought.is_other(path.name) for path in self._below(folder))

    def _below(self, folder: Path) -> Iterator[Path]:
        entered, within, todo = set(), os.path.join(os.path.realpath(folder), ""), [folder]
        while todo:
            here = todo.pop()
            folders, files = _listed(here)
            real = os.path.realpath(here)
            # a link to what holds this folder, and others beside it
            around = here != folder and within.startswith(os.path.join(real, ""))
            if real in entered or around or (real == self._pool and here != folder):
                continue
            entered.add(real)
            yield from (here / name for name in files)
            todo += [here / name for name in reversed(folders)]


def _listed(folder: Path) -> tuple[Sequence[str], Sequence[str]]:
    """(names of the folders, of everything else) that are no hidden ones, each in order."""
    return snapshot.once(("folder", os.path.abspath(folder)), lambda: _scanned(folder))


def _scanned(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A folder that cannot be read is no empty one: UserError."""
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                (folders if _is_folder(entry) else files).append(entry.name)
    except OSError as error:
        raise UserError(
            f"the folder '{readable(error.filename)}' cannot be read: {error.strerror}; give yourself "
            "permission, or move it away"
        ) from error
    return tuple(_visible(folders)), tuple(_visible(files))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Through a link as well; what cannot be looked at is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _visible(names: Iterable[str]) -> list[str]:
    """Without what is hidden or left by a system, in order of name however accents are written."""
    return sorted(
        (name for name in names if not name.startswith(".") and name.lower() not in NO_PICTURES),
        key=lambda name: (as_text(name), name),
    )


def files_left_out(paths: Sequence[str], which: str) -> str:
    """That these files are, in words, with their kinds and the first names of each. which: what is said of
    them, "that are empty".
    """
    try:
        where = os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # of two folders, of which one was named from the root on
        return files_left_out([os.path.abspath(path) for path in paths], which)
    names = [readable(path[len(where) :].lstrip(os.sep)) for path in paths]
    files = counted(len(paths), "file")
    return f"left out: {files} in '{readable(where or os.curdir)}' {which}: {by_kind(names)}"


def file_ending(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""


def name_of(path: Path) -> str:
    return as_text(path.name)


def inside(path: Path, folder: Path) -> str:
    # "." / "cat" is "cat"
    return as_text(str(path) if str(folder) == "." else str(path)[len(str(folder)) :].strip(os.sep))


def as_text(name: str) -> str:
    """A name as one text, in whichever of its two forms an accent was written; bytes that are no UTF-8 as
    their escapes.
    """
    return name if name.isascii() and name.isprintable() else unicodedata.normalize("NFC", readable(name))


def readable(path: Path | str) -> str:
    """A path as text of one line that can be printed and kept: bytes that are no UTF-8 as their escapes,
    `caf\\xe9`.
    """
    return (
        printable(os.fsencode(path).decode("utf-8", "backslashreplace"))
        .replace("\n", "\\n")
        .replace("\t", "\\t")
    )
