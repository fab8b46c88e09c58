"""What every loader hands over, and the few checks they share. Numpy and the standard library only."""

from __future__ import annotations

import contextlib
import gzip
import socket
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core import checks, shortage
from kdx.core.errors import UserError

PARTS = {
    "train": ("images", "labels"),
    "validation": ("validation_images", "validation_labels"),
    "test": ("test_images", "test_labels"),
    "unlabelled": ("pool_images", None),
}
"""What a data set may ship -> its pictures and its labels in `Raw`."""
MEANING = {
    "train": "to train with",
    "validation": "to validate with",
    "test": "to test with",
    "unlabelled": "in the pool",
}
Note = tuple[str, str]
"""(what the user should know, "info" or "warning")"""
RARE = 0.01
"""What is odd about fewer than this share of some pictures is reported quietly: it moves an accuracy by less
than a point.
"""


@dataclass(frozen=True, eq=False)
class Raw:
    """A data set as it lies on disk, before it is split.

    images (N, C, H, W) uint8 and labels (N,) int64 are its train part; test_* and validation_* such parts
    that it ships, if any; pool_images (P, C, H, W) uint8 the pictures that it ships without labels, if any.
    An array may be a memory map or a view. skipped: files that were left out because they do not decode.
    notes: what the user should know of how the set was read; what hangs on more than its key belongs to
    kdx.data.files.Files. sizes: (M, 2), width and height of the files as stored, where they differ. names:
    what the rows of a part are called, where they have names. files: what data.json tells of the files, as
    JSON. transparent: names of pictures behind which the background may show.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    test_images: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    pool_images: np.ndarray | None = None
    skipped: tuple[str, ...] = ()
    validation_images: np.ndarray | None = None
    validation_labels: np.ndarray | None = None
    notes: tuple[Note, ...] = ()
    sizes: np.ndarray | None = None
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    transparent: frozenset[str] = frozenset()

    def part(self, name: str) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Pictures and labels of a part, None where there are none."""
        images, labels = PARTS[name]
        return getattr(self, images), getattr(self, labels) if labels else None

    def only(self, rows: Mapping[str, np.ndarray]) -> Raw:
        """With these rows of some parts, and all of the others."""
        fewer = {
            field: array[rows[part]]
            for part in rows
            for field, array in zip(PARTS[part], self.part(part), strict=True)
            if array is not None
        }
        names = {
            part: [known[i] for i in rows[part]] if part in rows else known
            for part, known in self.names.items()
        }
        return replace(self, **fewer, names=names)

    def name(self, part: str, row: int) -> str:
        """What a row is called."""
        return self.names[part][row] if part in self.names else f"row {row} of the {part} part"


@dataclass(frozen=True)
class Description:
    """What is known of a data set without decoding its pictures.

    shape (C, H, W); train_per_class: rows of the train part by class; test, validation: rows of such a part
    that it ships, None where it ships none; pool: pictures without labels; test_size_is_a_fallback: a `test`
    size may be given although a test part is shipped, and is then unused (a folder of pictures has `test/` or
    has not; the same settings serve both). A size of validation always is.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    train: int
    train_per_class: tuple[int, ...]
    test: int | None
    pool: int
    test_size_is_a_fallback: bool = False
    validation: int | None = None


def check_path(key: str, value: object) -> Path:
    """A path given as text, `~` expanded; else a UserError."""
    return value.expanduser() if isinstance(value, Path) else checks.path(f"dataset.{key}", value)


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
        raise damaged(path, f"it cannot be read ({error})") from None


def check_labels(path: Path, labels: np.ndarray, classes: int) -> np.ndarray:
    """(N,) of any integer type -> (N,) int64, each in [0, classes); else the file is damaged."""
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
    return tuple(int(n) for n in np.bincount(labels, minlength=classes))


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Brightness in [0, 255] of any real type -> uint8, rounded"""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def counted(number: int, noun: str) -> str:
    """ "1 picture", "1,234 pictures" """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def are(number: int, what: str = "") -> str:
    """ "1 of 30 pictures is", "2 of 30 pictures are" """
    return f"{number:,}{what and f' {what}'} {'is' if number == 1 else 'are'}"


NAMED = 3


def few(names: Sequence[str], whole: int | None = None) -> str:
    """The first NAMED of them, and how many more there are. whole: how many there are, where `names` are the
    first ones only.
    """
    more = (len(names) if whole is None else whole) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


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
