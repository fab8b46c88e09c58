"""Files from outside, identified by their content and never by their name. Standard library only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from kdx.core.errors import UserError, printable
from kdx.core.files import read_json, write_atomically

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
    count, and the order; one that cannot be read counts as that.
    """

    memo: Path | None = None
    """Where digests are remembered by size, inode and times; the store sets it. Only written where its folder
    is there already.
    """
    _remembered: ClassVar[dict[str, list[Any]]] = {}

    def __init__(self, *paths: str | Path, named: Iterable[tuple[str, Path]] = ()):
        self.paths = [Path(p).expanduser() for p in paths]
        self.named = list(named)

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
        kept = _read_memo(self.memo)
        known = {**kept, **self._remembered}
        whole = hashlib.sha256()
        for name, path in self.files():
            found = NO_FILE if self.named and not _readable(path) else _digest_once(path, known)
            whole.update(os.fsencode(name) + f"\0{found}\n".encode())
        self._remembered.update(known)
        if known != kept and self.memo and self.memo.parent.is_dir():
            with contextlib.suppress(OSError):  # a full disk costs the memory, not the run
                write_atomically(self.memo, json.dumps({"files": known, "sha256": _of(known)}))
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


def _read_memo(path: Path | None) -> dict[str, list[Any]]:
    """What was remembered; nothing of a file that is not as it was written: a wrong digest would name another
    data set.
    """
    try:
        found = read_json(path) if path else {}
        files = found["files"] if found and found["sha256"] == _of(found["files"]) else {}
    except (UserError, LookupError, TypeError):
        return {}
    return {k: v for k, v in files.items() if isinstance(v, list)} if isinstance(files, dict) else {}


def _of(known: Any) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _readable(path: Path) -> bool:
    """Whether it is a file, which a pipe is not (it would be waited for), that we may read."""
    return os.path.isfile(path) and os.access(path, os.R_OK)


def _digest_once(path: Path, known: dict[str, list[Any]]) -> str:
    stat = path.stat()
    stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    # as it is read back, whatever its bytes
    name = printable(os.fsencode(path.resolve()).decode("utf-8", "backslashreplace"))
    if known.get(name, [None])[:-1] == stamp:
        return known[name][-1]
    try:
        found = sha256(path)
    except PermissionError:  # whoever needs it tells; a row may be skipped
        return _UNREADABLE
    if time.time() - stat.st_ctime > _SETTLED:
        known[name] = [*stamp, found]
    return found


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
