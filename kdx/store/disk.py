"""The store's disk: the lock of a key, and whether there is room, and leave to write. No torch."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kdx.core.errors import UserError
from kdx.core.files import own_file, own_folder

WHO = "the store"
Notify = Callable[[str, str], None]
"""(something that the user should know, its level)"""
NEARLY_NOTHING = 1 << 16
"""Bytes free on a disk that counts as full."""


def lock_file(root: Path, stage: str, key: str) -> Path:
    """The lock of a key; its folder is made.
    It is opened for writing, so it must not be a link to anything.
    """
    own_folder(root / "locks", WHO)
    file = root / "locks" / lock_name(stage, key)
    own_file(file, WHO)
    return file


@contextmanager
def locked(root: Path, stage: str, key: str, waits: str | None, note: Notify) -> Iterator[bool]:
    """Yields whether the lock of a key is held. waits: what is said where another process holds it, before
    that is waited for; None: nobody waits, and it yields false."""
    import filelock

    with may_write(root):
        lock = filelock.FileLock(lock_file(root, stage, key))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if waits is None:
                yield False
                return
            note(waits, "info")
            lock.acquire()
    try:
        yield True
    finally:
        lock.release()


def lock_name(stage: str, key: str) -> str:
    return f"{stage}-{key[:32]}.lock"


def disk_full(error: Exception, root: Path) -> bool:
    """Whether an error means a full disk. torch, numpy and safetensors raise kinds of their own, some without
    a word of the reason.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    writing = isinstance(error, OSError) or type(error).__name__ in ("SafetensorError", "RuntimeError")
    return writing and ("No space left" in str(error) or shutil.disk_usage(root).free < NEARLY_NOTHING)


@contextmanager
def may_write(root: Path) -> Iterator[None]:
    """A store that is read only serves what it has; what it lacks cannot be made in it."""
    try:
        yield
    except OSError as error:
        inside = isinstance(error.filename, str | os.PathLike) and root.absolute() in (
            path := Path(error.filename).absolute(),
            *path.parents,
        )
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and inside:
            raise UserError(
                f"the store '{root}' cannot be written ({error.strerror}: '{error.filename}'), and "
                "something has to be made in it: name another with store=PATH"
            ) from error
        raise
