"""Checks of paths that settings share, as those of kdx.core.checks: each returns the path, or raises a
UserError that says what was wanted and what was given.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kdx.core import files
from kdx.core.checks import refuse, shown
from kdx.core.errors import UserError

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes of one name, and of a path with all of its names, that Linux takes."""


def path(name: str, value: Any, what: str = "a folder") -> Path:
    """A path given as text, `~` expanded. Raises UserError where no file system could have it."""
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{name} must be the path of {what}; given: {shown(value)}")
    bare = value.encode("utf-8", "surrogatepass")
    if (
        b"\0" in bare
        or len(bare) > LONGEST_PATH
        or any(len(part) > LONGEST_NAME for part in bare.split(b"/"))
    ):
        raise UserError(
            f"{name} is no path that a file system could have (a name has at most {LONGEST_NAME} bytes); "
            f"given: {shown(value)}"
        )
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise UserError(
            f"{name}={shown(value, bare=True)} begins with '~', and there is no such user"
        ) from None


def output(name: str, value: Any) -> Path:
    """The path of a file that a command writes at its end, for kdx.core.files.write_output; `~` expanded.
    Asked before the work: a folder to hold it is there.
    """
    found = path(name, value, "a file")
    leads = Path(os.path.realpath(found)) if found.is_symlink() else found.absolute()
    if found.is_dir() or not (found.exists() or leads.parent.is_dir()):
        raise UserError(
            f"{name}={shown(value, bare=True)}: "
            + ("this is a folder; name a file in it" if found.is_dir() else "its folder does not exist")
        )
    return found


def place(name: str, value: Any) -> Path:
    """The path of a folder, which need not exist yet; `~` expanded.
    Whether it may be written is not asked.
    """
    found = path(name, value)
    if not (there := existing(found)).is_dir():
        refuse(f"{name}={shown(value, bare=True)} cannot be a folder: '{there}' is {_what(there)}")
    return found


def _what(there: Path) -> str:
    found = files.kind_at(there)
    return (
        (
            "a link to "
            f"{'what is not there' if not there.exists() else files.kind_at(Path(os.path.realpath(there)))}"
        )
        if found == "a link"
        else found or "gone"
    )


def folder(name: str, value: Any) -> Path:
    """A folder to write to, which need not exist yet; `~` expanded."""
    found = place(name, value)
    in_utf8(name, found)
    there = existing(found)
    if there.is_dir() and not os.access(there, os.W_OK | os.X_OK):
        refuse(f"{name}={shown(value, bare=True)} cannot be written: no permission to write in '{there}'")
    return found


def in_utf8(name: str, path: Path) -> None:
    """Refuses a folder to write to, named or that of the working directory, that TensorBoard, JSON and
    reports could not name.
    """
    if odd := [
        part
        for part in path.absolute().parts
        if not part.isascii() and any("\udc80" <= letter <= "\udcff" for letter in part)
    ]:
        refuse(
            f"{name}={shown(str(path), bare=True)} lies in the folder "
            f"'{shown(odd[0], bare=True)}', whose name is not UTF-8, and TensorBoard cannot write "
            f"there: work in another folder, or set {name}=PATH"
        )


def existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    path = path.absolute()
    while not os.path.lexists(path):
        path = path.parent
    return path
