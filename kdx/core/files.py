"""Files that are whole or absent, and JSON that may come from anybody. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from kdx.core.errors import UserError, printable

LARGEST = 1 << 27
"""Bytes of the largest JSON file that is read: older runs on a thousand classes hold confusion matrices of 80
MB.
"""
_DEEP = (dict, list)
_LONGEST = 40
"""Digits of the longest whole number that is read."""
DEEPEST = 64
"""Lists and objects inside each other: whatever walks through them by calling itself must come to an end."""
_DIGITS = bytes(48 if 48 <= byte < 58 else 32 for byte in range(256))
_LONG = b"0" * 20
"""Every digit as 0, everything else as a blank; so many digits in a row may be more than _LONGEST."""
_ESCAPED = re.compile(r"\\(?:u00[0189][0-9a-fA-F]|u007[fF]|u20[26][0-9a-fA-F]|u[dD][89a-fA-F]|[bf])")
_HIDDEN = re.compile(r"[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What may stand for a character that a terminal obeys instead of showing it, or for half a character, which
cannot be printed.
"""


def write_atomically(path: Path, content: str | bytes, mode: int | None = None) -> None:
    """A reader sees the old content or all of the new one, whenever the process dies. Whatever is at the path
    is replaced, a link or a device too: for files of kdx's own; `write_output` is for those that the user
    names. mode: permissions, None: as new files have them."""
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # what a killed process left; a link in its place would lead elsewhere
    with temporary.open("xb") as file:
        if mode is not None:
            os.chmod(temporary, mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_output(name: str, path: Path, content: str) -> None:
    """A file that the user names, which is theirs: a link is followed, a device, a pipe and what stdout leads
    to are written to directly, and a regular file is replaced at once, with its permissions kept. name: of
    the setting, for the message. Raises UserError where it cannot be written."""
    data = content.encode("utf-8", "replace")
    try:
        there = path.stat() if os.path.exists(path) else None
        if there is None or (stat.S_ISREG(there.st_mode) and not _printed_to(there)):
            _replace(Path(os.path.realpath(path)), data, there)
            return
        if stat.S_ISBLK(there.st_mode):
            raise UserError(f"{name}={path} cannot be written: it is a disk, and what is on it would be lost")
        if stat.S_ISREG(there.st_mode):  # at where stdout is, and not in its place: more is printed to it
            sys.stdout.flush()
            place = os.dup(_printed_to(there))
        else:
            place = os.open(path, os.O_WRONLY | os.O_NONBLOCK)  # a pipe without a reader would be waited for
            os.set_blocking(place, True)
        with open(place, "wb") as file:
            file.write(data)
    except OSError as error:
        why = "nobody reads this pipe" if error.errno == errno.ENXIO else error.strerror or error
        raise UserError(f"{name}={path} cannot be written: {why}") from error


def _replace(path: Path, data: bytes, there: os.stat_result | None) -> None:
    if there is None:
        if kind_at(path) is not None:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        write_atomically(path, data)
        return
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    write_atomically(path, data, mode=stat.S_IMODE(there.st_mode))


def _printed_to(there: os.stat_result) -> int:
    """Which of stdout (1) and stderr (2) leads to this file; 0: neither."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(there, os.fstat(number)):
                return number
    return 0


KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind_at(path: Path) -> str | None:
    """What lies at a path, itself and not what it leads to: "a link", "a folder", "a file", "a pipe" ...;
    None: nothing.
    """
    try:
        return KINDS.get(stat.S_IFMT(os.lstat(path).st_mode), "no file")
    except OSError:
        return None


def own_folder(path: Path, whose: str) -> None:
    """Makes a folder that is written into, where it is not there. A UserError where something else is in its
    place, a link to a folder too.

    whose: who writes, for the message: "the store".
    """
    if (found := kind_at(path)) not in (None, "a folder"):
        raise UserError(_in_the_way(path, found, "a folder", whose))
    path.mkdir(parents=True, exist_ok=True)


def own_file(path: Path, whose: str) -> None:
    """A UserError where the place of a file that is written is taken by something else: a link would lead
    elsewhere, a pipe would be waited for.
    """
    if (found := kind_at(path)) not in (None, "a file"):
        raise UserError(_in_the_way(path, found, "a file", whose))


def appendable(path: Path, whose: str) -> None:
    """`own_file`, for one that is written to where it is, not replaced: a UserError where it is there and may
    not be written, too.
    """
    own_file(path, whose)
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise UserError(
            f"'{path}' may not be read and written, and {whose} goes on with it: give yourself "
            "permission, or remove it"
        )


def _in_the_way(path: Path, found: str, wanted: str, whose: str) -> str:
    if found == "a link":
        return f"'{path}' is a link, and {whose} would write to where it leads: remove it"
    return f"'{path}' is {found}, where {whose} needs {wanted}: remove it, or move it away"


class LogFile(logging.FileHandler):
    """A log that is never written through a link and waits for no pipe. Says nothing of it, nor of one that
    may not be written: whoever owns the folder checks it and tells."""

    def _open(self) -> Any:
        if kind_at(Path(self.baseFilename)) in (None, "a file"):
            with contextlib.suppress(PermissionError):
                return super()._open()
        return open(os.devnull, self.mode, encoding=self.encoding)


def read_json(path: Path, *, strict: bool = True) -> Any:
    """The content of a JSON file, whoever wrote it: characters that a terminal would obey become text that
    shows them.

    strict: refuses numbers that are not finite, as all files but those of measurements must. Raises
    UserError, naming the file, where it is missing, is no file (a pipe would be waited for), is too large or
    too deep, is no JSON, names a key twice, or has a number of endless length.
    """
    try:
        if not os.path.isfile(path):
            raise UserError(f"'{path}' cannot be read: it is no file")
        if path.stat().st_size > LARGEST:
            raise UserError(
                f"'{path}' is too large: kdx reads JSON of up to {LARGEST >> 20} MiB, and this has "
                f"{path.stat().st_size >> 20}"
            )
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        text = content.decode("utf-8")
        found = json.loads(
            text,
            object_pairs_hook=_once,
            parse_float=_finite if strict else None,
            parse_constant=_refuse if strict else None,
            parse_int=_short if _LONG in content.translate(_DIGITS) else None,
        )
        if content.count(b"[") + content.count(b"{") > DEEPEST:
            _check_depth(found)
        return _shown(found) if _ESCAPED.search(text) or _is_hidden(text) else found
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"'{path}' cannot be read: {(str(error).splitlines() or [type(error).__name__])[0]}"
        ) from error


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)[:80]!r} stands there twice")
    return found


def _finite(digits: str) -> float:
    found = float(digits)
    if not math.isfinite(found):
        raise ValueError(f"{digits[:80]} is no finite number")
    return found


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no finite number")


def _short(digits: str) -> int:
    if (count := len(digits.lstrip("-"))) > _LONGEST:
        raise ValueError(f"a number of {count} digits is too long")
    return int(digits)


def _is_hidden(text: str) -> bool:
    """Whether a character of _HIDDEN stands there as itself."""
    return ("\x7f" in text or not text.isascii()) and _HIDDEN.search(text) is not None


def _check_depth(value: Any) -> None:
    level = [value] if isinstance(value, _DEEP) else []
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, _DEEP)
        ]
        if not level:
            return
    raise ValueError(f"it has more than {DEEPEST} lists inside each other")


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): _shown(inner) for key, inner in value.items()}
    return [_shown(inner) for inner in value] if isinstance(value, list) else value


def finite_or_null(value: Any) -> Any:
    """Data of JSON, with null in place of each number that is not finite: readers take it as missing."""
    if isinstance(value, dict):
        return {key: finite_or_null(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def plain_path(name: str) -> bool:
    """Whether a relative path stays inside the folder that it is relative to."""
    path = PurePosixPath(name)
    return (
        bool(path.parts)
        and not path.is_absolute()
        and ".." not in path.parts
        and "\\" not in name
        and "\0" not in name
    )
