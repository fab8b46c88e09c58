"""What one command has seen already of folders and files, so that it looks at each once. Standard library
only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

_Found = TypeVar("_Found")
_Stamp = tuple[int, int, int, int]
_seen: dict[Hashable, Any] | None = None
"""None: no command is at work, and everything is looked at anew."""


@contextlib.contextmanager
def one_command() -> Iterator[None]:
    """Inside, what was looked at `once` is not looked at again. One inside another is the same one."""
    global _seen
    before = _seen
    _seen = {} if before is None else before
    try:
        yield
    finally:
        _seen = before


def once(key: Hashable, look: Callable[[], _Found]) -> _Found:
    """What `look` finds; inside `one_command` what it found first for this key. One that raises is none."""
    if _seen is None:
        return look()
    if key not in _seen:
        _seen[key] = look()
    return _seen[key]


def while_same(
    key: Hashable, path: str, look: Callable[[], _Found], keep: Callable[[_Found], bool]
) -> _Found:
    """What `look` finds in a file; inside `one_command` that of the first call with this key, as long as the
    file is the same by size, times and inode. keep: whether an answer is worth keeping.
    """
    if _seen is None:
        return look()
    try:
        mark = hash(stamp(os.stat(path)))
    except OSError:
        return look()
    held = _seen.get(key)
    if held is not None and held[0] == mark:
        return held[1]
    found = look()
    if keep(found):
        _seen[key] = (mark, found)
    return found


def stamp(about: os.stat_result) -> _Stamp:
    """What changes with a file's content: size, times and inode."""
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino
