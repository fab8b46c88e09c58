"""What loaders share: keys checked, files found, fetched and read. Numpy, imported late, and the standard
library only.
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kdx.core import checks, path_checks, shortage
from kdx.core.errors import UserError

if TYPE_CHECKING:
    import numpy as np


def check_path(key: str, value: object) -> Path:
    """A path given as text, `~` expanded; else a UserError."""
    return value.expanduser() if isinstance(value, Path) else path_checks.path(f"dataset.{key}", value)


def check_int(key: str, value: object, low: int, high: int) -> int:
    """An int in [low, high], never a bool; else a UserError."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UserError(f"dataset.{key} must be an integer from {low} to {high}; given {checks.shown(value)}")
    return value


def check_flag(key: str, value: object) -> bool:
    """A bool; else a UserError."""
    if not isinstance(value, bool):
        raise UserError(f"dataset.{key} must be true or false; given {checks.shown(value)}")
    return value


def need(files: list[Path], what: str, root: Path, why: str) -> None:
    """A UserError that names the first of the files that is not there, and where it was looked for. why: the
    end of that sentence.
    """
    for path in files:
        if not path.is_file():
            inside = path.parent.relative_to(root).as_posix()
            holds = f", which should hold '{inside}'" if inside != "." else ""
            raise UserError(
                f"the data file '{path.name}' of {what} is missing; looked for in '{path.parent}': set "
                f"dataset.root=PATH{holds}{why}"
            )


def damaged(path: Path, why: object) -> UserError:
    """The UserError that names a file which cannot be what it should be."""
    return UserError(f"the data file '{path}' is damaged: {why}; fetch it again")


def read_file(path: Path, start: int | None = None) -> bytes:
    """The bytes of a file, unpacked if its name ends with .gz; the first `start` of them, or all. A damaged
    file is a UserError.
    """
    size = -1 if start is None else start
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(size)
    except FileNotFoundError:
        raise UserError(f"the data file '{path}' is missing") from None
    except (OSError, EOFError, zlib.error) as error:
        if shortage.kind_of_shortage(error):
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(
                f"the data file '{path}' cannot be read: {error.strerror}; mend that, or move it away"
            ) from None
        raise damaged(path, f"it cannot be read ({error})") from None


def check_labels(path: Path, labels: np.ndarray, classes: int) -> np.ndarray:
    """(N,) of any integer type -> (N,) int64, each in [0, classes); else the file is damaged."""
    import numpy as np

    labels = np.asarray(labels).reshape(-1).astype(np.int64)
    if len(labels) == 0:
        raise damaged(path, "it holds no labels")
    if labels.min() < 0 or labels.max() >= classes:
        raise damaged(
            path,
            f"it has a label {labels.min() if labels.min() < 0 else labels.max()}, and "
            f"there are {classes} classes",
        )
    return labels


def per_class(labels: np.ndarray, classes: int) -> tuple[int, ...]:
    """(N,) -> rows of each class"""
    import numpy as np

    return tuple(int(n) for n in np.bincount(labels, minlength=classes))


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Brightness in [0, 255] of any real type -> uint8, rounded"""
    import numpy as np

    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


NOT_TRIED = ", or dataset.download=true where there is a network"


def download(root: Path, fetch: Callable[[], object], present: Callable[[], bool]) -> str:
    """Runs `fetch`, one process at a time for each `root`, unless somebody else made the files `present`
    meanwhile.

    A failure is no error yet: the file that is missing then is. Returns the end of that sentence: why the
    download failed.
    """
    from filelock import FileLock

    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    lock = root / ".download.lock"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(lock), _patience(seconds=60):
            if not present():
                fetch()
    except Exception as error:  # torchvision raises many kinds: no network, no space, wrong checksum
        if shortage.kind_of_shortage(error):
            raise
        with contextlib.suppress(OSError):  # leaves no empty folder behind
            if made:
                lock.unlink(missing_ok=True)
                for empty in [*sorted((p for p in root.rglob("*") if p.is_dir()), reverse=True), *made]:
                    empty.rmdir()
        return f" (the download failed: {' '.join(str(error).split())[-120:]})"
    return ""


@contextlib.contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """A network that swallows packets must not hang for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
