"""Files from outside, identified by their content and never by their name. Standard library only."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from kdx.core import snapshot
from kdx.core.errors import UserError, printable
from kdx.store import memory

NO_FILE = "0" * 64
_SETTLED = 2.0
"""Seconds since its last change after which a file's digest is remembered: a clock may be too coarse to tell
two changes apart.
"""
_UNREADABLE = "unreadable"
"""What stands for the digest of a file that this user may not read."""


class Source:
    """Files or folders from outside, identified by their content and never by where they lie.

    paths: a file is known by its content; a folder by the names and contents of all files in it but hidden
    ones; several by those of each, in order. named: files by names of their own, in place of paths: the names
    count, and the order; one that cannot be read counts as that. once: its digest is what it was when it was
    first asked for; else its files are looked at each time, and read where they have changed.
    """

    memo: Path | None = None
    """Where digests are remembered by size, inode and times; the store sets it. Only written where its folder
    is there already.
    """
    _remembered: ClassVar[dict[str, list[Any]]] = {}

    def __init__(self, *paths: str | Path, named: Iterable[tuple[str, Path]] = (), once: bool = False):
        self.paths = [Path(p).expanduser() for p in paths]
        self.named = list(named)
        self._once, self._digest = once, ""

    def files(self) -> list[tuple[str, Path]]:
        found = list(self.named)
        for number, path in enumerate(self.paths):
            # a file that moves from one folder to the next is another input
            place = f"{number}/" if len(self.paths) > 1 else ""
            if path.is_dir():
                found += sorted((place + p.relative_to(path).as_posix(), p) for p in _below(path))
            elif path.is_file():
                found.append((place, path))
            else:
                raise UserError(f"'{path}' does not exist")
        return found

    def digest(self) -> str:
        if self._once and self._digest:
            return self._digest
        self._digest = self._found()
        return self._digest

    def _found(self) -> str:
        kept = memory.recall(self.memo)
        known = {**kept, **self._remembered}
        whole, folders = hashlib.sha256(), _Folders()
        skip = bool(self.named)
        for name, path in self.files():
            found = _digest_once(str(path), known, folders, skip)
            whole.update(os.fsencode(name) + f"\0{found}\n".encode())
        self._remembered.update(known)
        if known != kept:
            memory.keep(self.memo, known)
        return whole.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source) and (self.paths, self.named) == (other.paths, other.named)

    def __repr__(self) -> str:
        return f"Source({', '.join(map(str, self.paths or [path for _, path in self.named]))})"


def _below(folder: Path) -> Iterator[Path]:
    """Every file below but what is hidden, through links as well (folders of data often have some); each
    folder once, so that a circle ends.
    """
    entered = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (
            Path(here, name)
            for name in files
            if not name.startswith(".") and os.path.isfile(os.path.join(here, name))
        )


class _Folders(dict[str, str]):
    """Folder -> where it really lies, found out once."""

    def __missing__(self, folder: str) -> str:
        self[folder] = os.path.join(os.path.realpath(folder), "")
        return self[folder]


def _digest_once(here: str, known: dict[str, list[Any]], folders: _Folders, skip: bool) -> str:
    """skip: what is no file (a pipe would be waited for) or may not be read has the digest NO_FILE."""
    try:
        about = os.lstat(here)
        linked = stat.S_ISLNK(about.st_mode)
        about = os.stat(here) if linked else about
    except OSError:
        if skip:
            return NO_FILE
        raise
    if skip and not (stat.S_ISREG(about.st_mode) and os.access(here, os.R_OK)):
        return NO_FILE
    folder, _, last = here.rpartition("/")
    real = os.path.realpath(here) if linked or os.sep != "/" else folders[folder or here[: -len(last)]] + last
    # as it is read back, whatever its bytes
    name = printable(real if real.isascii() else os.fsencode(real).decode("utf-8", "backslashreplace"))
    stamp = list(snapshot.stamp(about))
    if (held := known.get(name)) is not None and held[:-1] == stamp:
        return held[-1]
    try:
        found = sha256(Path(here))
    except PermissionError:  # whoever needs it tells; a row may be skipped
        return _UNREADABLE
    if settled(about):
        known[name] = [*stamp, found]
    return found


def settled(about: os.stat_result) -> bool:
    """Whether a file was changed so long ago that its next change will have another time."""
    return time.time() - about.st_ctime > _SETTLED


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
