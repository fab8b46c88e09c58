"""Files and folders of pictures listed,
whatever lies among them and however they are called. Opens no file.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from kdx.core.errors import UserError, printable

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


class Walk:
    """Looks into folders, passing over hidden files and the folder of the pool, and keeps count of what else
    was left out.
    """

    def __init__(self, pool: Path | None):
        self._pool = None if pool is None else os.path.realpath(pool)
        self._notes: dict[str, None] = {}
        self._left_out: dict[str, None] = {}

    def note(self, text: str) -> None:
        self._notes[text] = None

    def reported(self) -> list[str]:
        left = list(self._left_out)
        if left:
            self.note(
                f"files whose names say that they are no pictures were left out: {len(left)}, the first "
                f"{readable(left[0])}"
            )
        return list(self._notes)

    def texts(self) -> list[str]:
        """Those left out that are texts."""
        return [path for path in self._left_out if file_ending(path) == "txt"]

    def folders(self, folder: Path) -> list[Path]:
        found = [folder / name for name in _visible(_listed(folder)) if os.path.isdir(folder / name)]
        return [path for path in found if self._pool is None or os.path.realpath(path) != self._pool]

    def pool_is_within(self, folder: Path) -> bool:
        return self._pool is not None and os.path.dirname(self._pool) == os.path.realpath(folder)

    def files(self, folder: Path) -> list[str]:
        return [name for name in _visible(_listed(folder)) if not os.path.isdir(folder / name)]

    def pictures(self, folder: Path) -> list[Path]:
        """Every file below that may be a picture, in order of name; links are followed, and each folder is
        entered once.
        """
        found = []
        for path in self._below(folder):
            if is_other(path.name):
                self._left_out[str(path)] = None
            else:
                found.append(path)
        return found

    def any(self, folder: Path) -> bool:
        """Whether there is such a file."""
        return any(not is_other(path.name) for path in self._below(folder))

    def _below(self, folder: Path) -> Iterator[Path]:
        entered, within = set(), os.path.join(os.path.realpath(folder), "")
        for here, folders, files in os.walk(folder, followlinks=True, onerror=_stop):
            real = os.path.realpath(here)
            # a link to what holds this folder, and others beside it
            around = here != str(folder) and within.startswith(os.path.join(real, ""))
            if real in entered or around or (real == self._pool and here != str(folder)):
                folders.clear()
                continue
            entered.add(real)
            folders[:] = _visible(folders)
            yield from (Path(here, name) for name in _visible(files))


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        _stop(error)


def _stop(error: OSError) -> NoReturn:
    """A folder that cannot be read is no empty one."""
    raise UserError(
        f"the folder '{readable(error.filename)}' cannot be read: {error.strerror}; give yourself "
        "permission, or move it away"
    ) from error


def _visible(names: Iterable[str]) -> list[str]:
    """Without what is hidden or left by a system, in order of name however accents are written."""
    return sorted(
        (name for name in names if not name.startswith(".") and name.lower() not in NO_PICTURES),
        key=lambda name: (as_text(name), name),
    )


def is_other(name: str) -> bool:
    """Whether the name says that it is no picture."""
    return file_ending(name) in OTHER_KINDS or name.endswith("~")


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
