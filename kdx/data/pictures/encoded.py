"""Pictures that stay in their files, and are decoded as they are asked for: data sets that are larger than
memory when decoded, as ImageNet is. Numpy and Pillow.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdx.core import shortage
from kdx.core.errors import UserError
from kdx.data.pictures import deep
from kdx.data.pictures.square import Square
from kdx.data.pictures.walk import readable
from kdx.data.stored import ChosenWindow, LazyRows
from kdx.data.words import keep_words, open_words


@dataclass(frozen=True)
class HowRead:
    """How the pictures of a data set are read. square: the arguments of kdx.data.pictures.square.Square.
    grey: as one channel. spans: of each depth beyond eight bits what becomes black and white. most: pixels,
    beyond which a picture is refused. roots: the folders that files lie below, by the key that names them.
    """

    square: Mapping[str, Any]
    grey: bool
    spans: Mapping[str, tuple[float, float]]
    most: int
    roots: Mapping[str, str]


@dataclass(frozen=True)
class EncodedPart:
    """files: "root:cat/a.png", by the key of the folder and the place in it; deep: (N,) uint8, 0 for eight
    bits, else the number of its depth, from 1, among HowRead.spans."""

    files: Sequence[str]
    deep: np.ndarray


class EncodedRows(LazyRows):
    """(N, C, S, S) uint8, decoded by threads as they are asked for, the clean row as `Square` cuts it."""

    cheap = False
    crops = True
    dtype = np.dtype(np.uint8)

    def __init__(self, how: HowRead, parts: Sequence[EncodedPart], numbers: np.ndarray | None = None):
        self.how, self.parts, self.numbers = how, tuple(parts), numbers
        self._square = Square(**how.square)
        self._starts = np.cumsum([0, *(len(part.files) for part in parts)])

    @property
    def shape(self) -> tuple[int, ...]:
        count = int(self._starts[-1]) if self.numbers is None else len(self.numbers)
        return (count, 1 if self.how.grey else 3, self._square.size, self._square.size)

    def take(self, rows: np.ndarray) -> EncodedRows:
        return EncodedRows(self.how, self.parts, self._numbers(rows))

    def and_then(self, others: EncodedRows) -> EncodedRows:
        mine = self._numbers(np.arange(len(self)))
        further = others._numbers(np.arange(len(others))) + self._starts[-1]
        return EncodedRows(self.how, [*self.parts, *others.parts], np.concatenate([mine, further]))

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self._decoded(rows, [None] * len(rows))

    def cropped(self, rows: np.ndarray, draws: np.ndarray, window: ChosenWindow) -> np.ndarray:
        cuts = [functools.partial(_cut, window, numbers.tolist(), self._square.size) for numbers in draws]
        return self._decoded(rows, cuts)

    def digest(self) -> str:
        """Of how they are read and of the files' names: what these hold is part of the data set's key."""
        whole = hashlib.sha256(json.dumps([dict(self.how.square), self.how.grey]).encode())
        for number in self._numbers(np.arange(len(self))).tolist():
            whole.update(self._name(number)[0].encode("utf-8", "surrogateescape") + b"\0")
        return whole.hexdigest()

    def path(self, row: int) -> Path:
        """The file of a row."""
        return self._path(self._name(int(self._numbers(np.array([row]))[0]))[0])

    def _name(self, number: int) -> tuple[str, int]:
        part = int(np.searchsorted(self._starts, number, side="right")) - 1
        place = number - int(self._starts[part])
        return self.parts[part].files[place], int(self.parts[part].deep[place])

    def _path(self, name: str) -> Path:
        key, _, place = name.partition(":")
        return Path(self.how.roots[key], place)

    def _decoded(self, rows: np.ndarray, cuts: Sequence[Callable[[Any], Any] | None]) -> np.ndarray:
        """In order, whatever the number of threads."""
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)

        def fill(place: int, number: int) -> None:
            name, depth = self._name(number)
            found[place] = self._one(self._path(name), depth, cuts[place])

        done = _threads().map(fill, range(len(rows)), self._numbers(rows).tolist())
        for _ in done:
            pass
        return found

    def _one(self, path: Path, depth: int, cut: Callable[[Any], Any] | None) -> np.ndarray:
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = None  # the limit is `most`, and threads share Pillow's
        try:
            with Image.open(path) as picture:
                pixels = picture.width * picture.height
            if pixels > self.how.most:
                raise ValueError(f"it has {pixels:,} pixels, and dataset.max_pixels allows {self.how.most:,}")
            if not depth:
                return self._square.of_bytes(path, self.how.grey, cut)
            span = deep.Span(*list(self.how.spans.values())[depth - 1])
            return self._square.of_values(path, self.how.grey, span, cut)[0]
        except Exception as error:  # Pillow raises many kinds for a damaged file
            if shortage.kind_of_shortage(error):
                raise
            gone = isinstance(error, FileNotFoundError)
            why = "is gone" if gone else f"does not decode: {readable(str(error).strip() or repr(error))}"
            instead = (
                ""
                if gone
                else ". If it never decoded, remove it, or set dataset.on_error=skip, which decodes all "
                "of them once beforehand and leaves such out"
            )
            raise UserError(
                f"the picture '{readable(path)}' {why}; the pictures of this data set stay in their files "
                "(dataset.encoded): put it back as it was and run the same command again, which goes on"
                f"{instead}"
            ) from error

    # How they are kept

    def keep(self, folder: Path, name: str) -> None:
        (part,) = self.parts
        keep_words(part.files, folder, f"{name}.files")
        np.save(folder / f"{name}.deep.npy", part.deep)
        about = {**vars(self.how), "square": dict(self.how.square), "spans": list(self.how.spans.items())}
        (folder / HOW_READ).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def open(cls, folder: Path, names: Sequence[str], places: Mapping[str, str]) -> EncodedRows:
        about = json.loads((folder / HOW_READ).read_text(encoding="utf-8"))
        how = HowRead(
            about["square"],
            about["grey"],
            {depth: (low, high) for depth, (low, high) in about["spans"]},
            about["most"],
            {**about["roots"], **places},
        )
        parts = [
            EncodedPart(
                open_words(folder, f"{name}.files"), np.load(folder / f"{name}.deep.npy", mmap_mode="r")
            )
            for name in names
        ]
        return cls(how, parts)


HOW_READ = "encoded.json"


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """As many as the cores that this process may use; Pillow lets others work while it decodes."""
    cores = len(os.sched_getaffinity(0)) if "sched_getaffinity" in vars(os) else os.cpu_count() or 1
    return ThreadPoolExecutor(cores, thread_name_prefix="kdx-decoder")


def _cut(window: ChosenWindow, numbers: Sequence[float], size: int, picture: Any) -> Any:
    """A square of what a window shows of a picture, at full resolution, by Pillow's antialiased bilinear."""
    from PIL import Image

    left, top, wide, high, mirrored = window(numbers, picture.width, picture.height)
    box = (left, top, left + wide, top + high)
    found = picture.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return found.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else found
