"""What every loader hands over, and the few checks they share. Numpy and the standard library only."""

from __future__ import annotations

import contextlib
import gzip
import socket
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from kdx.core import checks, shortage
from kdx.core.errors import UserError

PARTS = ("train", "validation", "test", "unlabelled")
"""What a data set may ship."""
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


class Raw(ABC):
    """A data set as it lies on disk, before it is split: what a loader hands over.

    It has a part "train", and may have "validation", "test" and "unlabelled". Arrays may be memory maps or
    views. task: the `_target_` and the keys of what answers mean, as plain data. reads: what its rows are, as
    networks and augmentations say that they read it: "pictures", or a word of your own. noun: one row, in
    sentences. notes: what the user should know of how the set was read; what hangs on more than its key
    belongs to kdx.data.files.Files. skipped: files that were left out because they cannot be read. names:
    what the rows of a part are called, where they have names.
    """

    task: Mapping[str, Any]
    reads: str
    noun: str = "row"
    notes: tuple[Note, ...] = ()
    skipped: tuple[str, ...] = ()
    names: Mapping[str, Sequence[str]]

    @abstractmethod
    def part(self, name: str) -> tuple[Any, Any]:
        """(inputs, truth) of a part: one array each, or several by name, rows first; None where there are
        none.
        """

    @abstractmethod
    def only(self, rows: Mapping[str, np.ndarray]) -> Self:
        """With these rows of some parts, and all of the others."""

    def strata(self, part: str) -> np.ndarray | None:
        """(N,) int64: the group, such as the class, of each row of a part, of which splits keep the shares;
        None: there are none.
        """
        return None

    def adapter(self, seen: Sequence[Any]) -> tuple[Mapping[str, Any] | None, list[Note]]:
        """(what stands between its rows and a network (kdx.models.adapt), as plain data, None: nothing; what
        there is to say of it). seen: the inputs that training may see.
        """
        return None, []

    def about(self) -> dict[str, Any]:
        """Further plain data for data.json."""
        return {}

    def look(
        self, inputs: Mapping[str, Any], name: Callable[[str, int], str]
    ) -> tuple[list[Note], dict[str, Any]]:
        """(what is odd about the rows of the splits, the same as JSON). name: what row i of a split is
        called.
        """
        return [], {}

    def in_words(self) -> str:
        """What one row is like."""
        return ""

    def name(self, part: str, row: int) -> str:
        """What a row is called."""
        return self.names[part][row] if part in self.names else f"row {row} of the {part} part"


@dataclass(frozen=True, eq=False)
class Arrays(Raw):
    """Rows of any kind. parts: name -> (inputs, truth), of "unlabelled" truth None. groups: (N,) int64 of the
    train part, None: splits are drawn at random. between: the adapter.
    """

    parts: Mapping[str, tuple[Any, Any]]
    task: Mapping[str, Any]
    reads: str
    groups: np.ndarray | None = None
    between: Mapping[str, Any] | None = None
    noun: str = "row"
    notes: tuple[Note, ...] = ()
    skipped: tuple[str, ...] = ()
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def part(self, name: str) -> tuple[Any, Any]:
        return self.parts.get(name, (None, None))

    def only(self, rows: Mapping[str, np.ndarray]) -> Self:
        parts = {
            name: tuple(None if value is None else taken(value, rows[name]) for value in found)
            if name in rows
            else found
            for name, found in self.parts.items()
        }
        names = {
            part: [known[i] for i in rows[part]] if part in rows else known
            for part, known in self.names.items()
        }
        groups = self.groups[rows["train"]] if self.groups is not None and "train" in rows else self.groups
        return replace(self, parts=parts, names=names, groups=groups)

    def strata(self, part: str) -> np.ndarray | None:
        return self.groups if part == "train" else None

    def adapter(self, seen: Sequence[Any]) -> tuple[Mapping[str, Any] | None, list[Note]]:
        return self.between, []


def taken(value: Any, rows: np.ndarray) -> Any:
    """These rows of an array, or of each of several by name."""
    return {name: leaf[rows] for name, leaf in value.items()} if isinstance(value, Mapping) else value[rows]


def example_of(inputs: Any) -> dict[str, tuple[list[int], str]]:
    """name -> (shape of one row, type), "" where there is one array: as data.json has it."""
    named = inputs if isinstance(inputs, Mapping) else {"": inputs}
    return {name: (list(leaf.shape[1:]), str(leaf.dtype)) for name, leaf in named.items()}


@dataclass(frozen=True)
class Description:
    """What is known of a data set without reading all of it, as plain data.

    task: the `_target_` of what answers mean (kdx.tasks), with its keys. example: name -> (shape of one row,
    type such as "uint8"), "" where inputs are one array. reads: what its rows are; see Raw. train: rows of
    the train part; strata: the same by group (by class), None: without groups. test, validation: rows of such
    a part that it ships, None where it ships none; pool: rows without truth. test_size_is_a_fallback: a
    `test` size may be given although a test part is shipped, and is then unused (a folder of pictures has
    `test/` or has not; the same settings serve both). A size of validation always is. adapter: a stand-in for
    that of the data (see Raw.adapter), for checks before work.
    """

    task: Mapping[str, Any]
    example: Mapping[str, tuple[Sequence[int], str]]
    reads: str
    train: int
    strata: tuple[int, ...] | None = None
    test: int | None = None
    pool: int = 0
    test_size_is_a_fallback: bool = False
    validation: int | None = None
    adapter: Mapping[str, Any] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, () where there are none."""
        return tuple(self.task.get("classes", ()))

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Of one row, where it is one array."""
        return tuple(self.example[""][0]) if "" in self.example else None

    def row_bytes(self) -> int:
        """Of one row as it is stored."""
        return sum(
            int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
            for shape, kind in self.example.values()
        )


class Loader(Protocol):
    """What a data set is: a class whose arguments are the keys of its YAML, checked as it is built.

    `paths`, where it has that attribute, names the keys that say where its files lie.
    """

    def files(self) -> Any:
        """The files that it reads, always the same ones in one order, or by part (kdx.data.files.Files): they
        are known by their content. [] where it reads none.
        """

    def fetch(self) -> None:
        """Makes sure that they are there, downloads them where that is asked for; UserError where they are
        not.
        """

    def describe(self) -> Description:
        """What it holds, without reading all of it."""

    def load(self, *, workers: int) -> Raw:
        """All of it. workers: threads that may read; the result is the same for any number."""


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
