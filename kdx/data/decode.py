"""Picture files read: what a header tells, and the pixels as `image_size` squares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from kdx.data.raw import check_int
from kdx.faults import Fault

GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Header:
    """What the header of a picture tells. mode: how it keeps its pixels, as Pillow names it; size: width and height as stored."""

    mode: str
    size: tuple[int, int]


class Decoder:
    """Pictures of any size and format that Pillow reads, as `image_size` squares: the short side resized, then the centre cropped.

    Transparency is dropped. on_error: "stop" makes a picture that does not decode a Fault that names it; "skip" leaves it out.
    """

    def __init__(self, *, image_size: int, on_error: str):
        self.size = check_int("image_size", image_size, 4, 4096)
        if on_error not in ("stop", "skip"):
            raise Fault(f"dataset.on_error must be 'stop' or 'skip'; given {on_error!r}")
        self._skip = on_error == "skip"

    def headers(self, paths: Sequence[Path], workers: int) -> list[Header | None]:
        """Of each picture, in order; None for those that cannot be opened and are skipped. Decodes nothing."""
        answers = list(_map(_header, paths, workers))
        self._refuse(paths, answers)
        return [answer if isinstance(answer, Header) else None for answer in answers]

    def decode(self, paths: Sequence[Path], grey: bool, workers: int) -> tuple[np.ndarray, np.ndarray]:
        """(N, C, S, S) uint8 of the pictures that decode, in order, and (len(paths),) bool: which those are."""
        images = np.empty((len(paths), 1 if grey else 3, self.size, self.size), np.uint8)

        def fill(i: int) -> Exception | None:
            try:
                images[i] = _square(paths[i], self.size, grey)
            except Exception as error:  # Pillow raises many kinds for a damaged file
                return error
            return None

        answers = list(_map(fill, range(len(paths)), workers))
        self._refuse(paths, answers)
        good = np.array([answer is None for answer in answers], bool)
        return images if good.all() else images[good], good

    def _refuse(self, paths: Sequence[Path], answers: Sequence[object]) -> None:
        bad = [(path, answer) for path, answer in zip(paths, answers, strict=True) if isinstance(answer, Exception)]
        if bad and not self._skip:
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            raise Fault(f"the picture '{bad[0][0]}'{more} does not decode: {bad[0][1]}; remove it, or set dataset.on_error=skip")
        if len(bad) == len(paths):
            raise Fault(f"not one of {len(bad)} pictures decodes; the first is '{bad[0][0]}': {bad[0][1]}")


def _map(function: Callable[[object], Answer], items: Sequence[object], workers: int) -> Iterator[Answer]:
    if workers <= 0:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(function, items)


def _header(path: Path) -> Header | Exception:
    """Or why the picture cannot be opened."""
    from PIL import Image

    try:
        if not path.is_file():
            raise OSError("it is no file")
        with Image.open(path) as picture:
            return Header(picture.mode, picture.size)
    except Exception as error:  # Pillow raises many kinds for a damaged file
        return error


def _square(path: Path, size: int, grey: bool) -> np.ndarray:
    """(C, size, size) uint8"""
    from PIL import Image, ImageOps

    with Image.open(path) as picture:
        if picture.format == "JPEG":
            picture.draft(None, (2 * size, 2 * size))  # decodes at a half, quarter or eighth where that is still twice what is needed
        picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I"):  # sixteen bits: keep the upper eight
            picture = Image.fromarray(np.clip(np.asarray(picture).astype(np.int64) >> 8, 0, 255).astype(np.uint8))
        picture = picture.convert("L" if grey else "RGB")
    scale = size / min(picture.size)
    wide, high = (max(size, round(side * scale)) for side in picture.size)
    left, top = (wide - size) // 2, (high - size) // 2
    picture = picture.resize((wide, high), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    pixels = np.asarray(picture)
    return pixels[None] if grey else pixels.transpose(2, 0, 1)
