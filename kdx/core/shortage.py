"""What this machine has too little of (memory, threads, open files), recognised in the errors of torch, numpy
and the system, and reported with what to lower.

Imports none of them: an error is known by the name of its kind and by its words.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator

from kdx.core.errors import UserError

MEMORY = re.compile(
    r"can't allocate memory|out of memory|not enough memory|cannot allocate "
    r"memory|CUBLAS_STATUS_ALLOC_FAILED|bad_alloc|unable to allocate",
    re.IGNORECASE,
)
UNMAPPED = re.compile(
    r"failed to map segment|cannot map zero-fill pages|cannot allocate memory", re.IGNORECASE
)
"""What the loader of shared libraries says, which Python passes on as an ImportError; of a file system where
nothing may be run it names that too.
"""
THREADS = re.compile(
    r"can't start new thread|resource temporarily unavailable|thread creation failed", re.IGNORECASE
)
ELSE = "the batch size and the size of the pictures, or take smaller networks or less data"
_MOST = 160
"""Letters that are kept of the error's own words."""


class Shortage(UserError):
    """The machine is too small for what was asked: the work failed, and the words were not wrong."""


def kind_of_shortage(error: BaseException) -> str | None:
    """ "memory", "libraries" (memory already for these), "threads" or "files", whichever this error says
    there is too little of; None for any other.
    """
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or number == errno.ENOMEM:
        return "memory"
    if number in (errno.EMFILE, errno.ENFILE):
        return "files"
    if isinstance(error, ImportError):
        return "libraries" if UNMAPPED.search(str(error)) and "not permitted" not in str(error) else None
    if not isinstance(error, RuntimeError | OSError):
        return None
    return "memory" if MEMORY.search(str(error)) else "threads" if THREADS.search(str(error)) else None


def sentence(error: BaseException, what: str, lower: str = ELSE) -> str | None:
    """For an error, or one that it was raised from; None where nothing was short. what: the work that needs
    it. lower: the settings that need most.
    """
    while error.__cause__ is not None and kind_of_shortage(error) is None:
        error = error.__cause__
    words = (" ".join(str(error).split()) or type(error).__name__)[:_MOST]
    return {
        "memory": (
            f"{what} is too large for this machine: it needs more memory than there is "
            f"({words}); lower {lower}"
        ),
        "libraries": (
            f"{what} needs more memory than it may have already for the libraries that it loads ({words}): "
            "raise `ulimit -v`, or close other programs"
        ),
        "threads": (
            f"{what} needs more threads or processes than it may have ({words}): lower device.workers and "
            "device.threads, or raise `ulimit -u`"
        ),
        "files": (
            f"{what} needs more open files than it may have ({words}): raise `ulimit "
            "-n`, or lower device.workers"
        ),
    }.get(kind_of_shortage(error) or "")


@contextlib.contextmanager
def noticed(what: str, lower: str = ELSE) -> Iterator[None]:
    """Raises Shortage in place of an error that tells of one."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if why := sentence(error, what, lower):
            raise Shortage(why) from error
        raise
