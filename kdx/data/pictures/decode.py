"""Picture files read: how bright the whole set is, and the pixels as `image_size` squares."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from kdx.core import checks, snapshot
from kdx.core.errors import UserError
from kdx.data.loading import check_int
from kdx.data.pictures import deep
from kdx.data.pictures.encoded import EncodedPart, EncodedRows, HowRead
from kdx.data.pictures.header import Header, TooLarge, Unknown, are_grey, decode_error, read_header
from kdx.data.pictures.square import Square
from kdx.data.pictures.walk import PICTURES, file_ending, readable
from kdx.data.stored import BLOCK_BYTES, InMemory, Nowhere, StoredRows, Writer

LOOKED_AT = 256
"""Pictures of each depth whose values are looked at before any is scaled, evenly over the list."""
PIXELS_LOOKED_AT = 1 << 28
"""After so many no further picture is looked at."""

_Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Reading:
    """How all pictures of a data set are read: whether as one grey channel, and what becomes black and white
    at each depth beyond eight bits.
    """

    headers: Sequence[Header]
    grey: bool
    spans: Mapping[str, deep.Span]


@dataclass(frozen=True, eq=False)
class Decoded:
    """images (N, C, S, S) uint8 of the pictures that decode, in order; good (M,) bool: which of all those
    are; skipped: why not, of each other one; beyond and odd: pictures with values beyond black and white, and
    with values that are no numbers."""

    images: np.ndarray | StoredRows
    good: np.ndarray
    skipped: Mapping[Path, str]
    beyond: tuple[Path, ...]
    odd: tuple[Path, ...]


class Decoder:
    """Pictures of any size and format that Pillow reads, as squares of bytes (see kdx.data.pictures.square).

    range: what becomes black and white in pictures of more than eight bits: [low, high], a number (from 0 to
    it), or None: found in the pictures (kdx.data.pictures.deep.span_of); those of eight bits are taken as
    they are. max_pixels: a picture with more is refused before it is decoded. on_error: "stop" makes a
    picture that is refused or does not decode a UserError that names it; "skip" leaves it out.
    """

    def __init__(
        self, *, image_size: int, fit: str, background: Any, range: Any, max_pixels: int, on_error: str
    ):
        self._arguments = {"image_size": image_size, "fit": fit, "background": background}
        self.square = Square(**self._arguments)
        self.range = deep.check_range(range)
        self._most = check_int("max_pixels", max_pixels, 1, 2**31 - 1)
        self._skip = checks.choice("dataset.on_error", on_error, ("stop", "skip")) == "skip"

    @property
    def refuses(self) -> tuple[int, bool]:
        """What decides which files are no pictures: the most pixels, and whether such are skipped."""
        return self._most, self._skip

    def headers(self, paths: Sequence[Path], workers: int) -> list[Header | str]:
        """Of each picture, in order; the reason, of those that cannot be opened and are skipped.
        Decodes nothing.
        """
        with limited(self._most):
            answers = list(_map(self._header, paths, workers))
            self._refuse(paths, answers)
            return [
                answer if isinstance(answer, Header) else self._reason(path, answer)
                for path, answer in zip(paths, answers, strict=True)
            ]

    def strangers(self, paths: Sequence[Path]) -> dict[Path, str]:
        """Why, of those that are skipped as no picture at all: Pillow knows them for none, and their names do
        not say that they are meant for one. Such a file counts for nothing; it is opened here, and no other.
        """
        odd = [path for path in paths if file_ending(path.name) not in PICTURES] if self._skip else []
        with limited(self._most):
            return {path: str(answer) for path in odd if isinstance(answer := self._header(path), Unknown)}

    def _header(self, path: Path) -> Header | Exception:
        """Called inside `limited`. A command opens the header of a file once."""
        return snapshot.while_same(
            ("header", path, self._most),
            str(path),
            lambda: read_header(path),
            lambda found: isinstance(found, Header | Unknown),
        )

    def reading(self, headers: Sequence[Header], workers: int) -> Reading:
        """headers: of all pictures of the data set. Decodes some of those of more than eight bits."""
        spans = {}
        for depth in sorted({header.depth for header in headers} - {deep.EIGHT}):
            if self.range:
                spans[depth] = deep.Span(*self.range)
                continue
            with limited(self._most):
                spans[depth] = deep.span_of(
                    depth,
                    _map(_bounds, _some([header for header in headers if header.depth == depth]), workers),
                )
        return Reading(headers, are_grey(headers), spans)

    def undecoded(
        self, reading: Reading, parts: Mapping[str, Sequence[Path]], roots: Mapping[str, Path]
    ) -> dict[str, EncodedRows]:
        """The pictures of each part, which stay in their files. roots: the folders that they lie below, by
        key, the innermost of which counts."""
        depths = {header.path: header.depth for header in reading.headers if header.depth != deep.EIGHT}
        numbers = {depth: number for number, depth in enumerate(reading.spans, 1)}
        spans = {depth: (span.low, span.high) for depth, span in reading.spans.items()}
        places = {key: os.path.abspath(root) for key, root in roots.items()}
        how = HowRead(self._arguments, reading.grey, spans, self._most, places)
        inner = sorted(places, key=lambda key: -len(places[key]))

        def named(path: Path) -> str:
            whole = os.path.abspath(path)
            key = next(key for key in inner if os.path.commonpath([whole, places[key]]) == places[key])
            return f"{key}:{os.path.relpath(whole, places[key])}"

        return {
            part: EncodedRows(
                how,
                [
                    EncodedPart(
                        [named(path) for path in paths],
                        np.array([numbers.get(depths.get(path, ""), 0) for path in paths], np.uint8),
                    )
                ],
            )
            for part, paths in parts.items()
        }

    def shape(self, reading: Reading) -> tuple[int, int, int]:
        """Of one picture."""
        return (1 if reading.grey else 3, self.square.size, self.square.size)

    def decode(
        self, paths: Sequence[Path], reading: Reading, workers: int, writer: Writer | None = None
    ) -> Decoded:
        """writer: who takes the pictures, block by block; None: they stay in memory."""
        shape = self.shape(reading)
        writer = writer or InMemory("", len(paths), shape, np.uint8)
        each = max(1, BLOCK_BYTES // int(np.prod(shape)))
        images = np.empty((min(each, len(paths)), *shape), np.uint8)
        beyond, odd = np.zeros(len(paths), bool), np.zeros(len(paths), bool)
        spans = {
            header.path: reading.spans[header.depth]
            for header in reading.headers
            if header.depth != deep.EIGHT
        }

        def fill(i: int) -> Exception | None:
            try:
                if paths[i] in spans:
                    images[i % each], beyond[i], odd[i] = self.square.of_values(
                        paths[i], reading.grey, spans[paths[i]]
                    )
                else:
                    images[i % each] = self.square.of_bytes(paths[i], reading.grey)
            except Exception as error:  # Pillow raises many kinds for a damaged file
                return decode_error(error, paths[i])
            return None

        answers: list[Exception | None] = []
        with limited(self._most):
            for start in range(0, len(paths), each):
                made = list(_map(fill, range(start, min(start + each, len(paths))), workers))
                answers += made
                fine = [place for place, answer in enumerate(made) if answer is None]
                writer.append(images[: len(made)] if len(fine) == len(made) else images[fine])
            self._refuse(paths, answers)
            skipped = {
                path: self._reason(path, answer)
                for path, answer in zip(paths, answers, strict=True)
                if answer is not None
            }
        good = np.array([answer is None for answer in answers], bool)
        those = [tuple(paths[i] for i in np.flatnonzero(which & good)) for which in (beyond, odd)]
        return Decoded(writer.close(), good, skipped, *those)

    def tried(self, paths: Sequence[Path], reading: Reading, workers: int) -> Decoded | None:
        """As `decode`, and nothing is kept of the pixels: which pictures decode, where those that do not are
        skipped; else None, and none is decoded."""
        return self.decode(paths, reading, workers, Nowhere()) if self._skip else None

    def _refuse(self, paths: Sequence[Path], answers: Sequence[object]) -> None:
        bad = [
            (path, answer)
            for path, answer in zip(paths, answers, strict=True)
            if isinstance(answer, Exception)
        ]
        if not bad or (self._skip and len(bad) < len(paths)):
            return
        path, error = bad[0]
        large, why = isinstance(error, TooLarge), self._reason(path, error)
        if self._skip:
            raise UserError(f"not one of {len(bad)} pictures decodes; the first is '{readable(path)}': {why}")
        # a floor: these are of one part, and before a run begins of headers alone
        more = f" (and at least {len(bad) - 1:,} more)" if len(bad) > 1 else ""
        what, instead = (
            ("is too large", "raise that, make it smaller,")
            if large
            else ("does not decode", f"{getattr(error, 'instead', '')}remove it,")
        )
        raise UserError(
            f"the picture '{readable(path)}'{more} {what}: {why}; {instead} or set dataset.on_error=skip"
        )

    def _reason(self, path: Path, error: Exception) -> str:
        """Why it is left out, in one line. Called inside `limited`."""
        return self._too_many(path) if isinstance(error, TooLarge) else in_words(error)

    def _too_many(self, path: Path) -> str:
        """Called inside `limited`."""
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = None
        with Image.open(path) as picture:
            wide, high = picture.size
        if wide * high <= self._most:  # the header promised less than there is
            return f"it has more pixels than the {self._most:,} that dataset.max_pixels allows"
        return (
            f"it has {wide:,} x {high:,} = {wide * high:,} pixels, and "
            f"dataset.max_pixels allows {self._most:,}"
        )


def _some(headers: Sequence[Header]) -> list[Path]:
    """At most LOOKED_AT of them, evenly over the list, with about PIXELS_LOOKED_AT pixels at most."""
    found, pixels = [], 0
    for i in np.unique(np.linspace(0, len(headers) - 1, min(LOOKED_AT, len(headers))).astype(int)):
        if pixels >= PIXELS_LOOKED_AT:
            break
        found.append(headers[i].path)
        pixels += headers[i].size[0] * headers[i].size[1]
    return found


@contextmanager
def limited(most: int) -> Iterator[None]:
    """Pillow's own limit set: larger pictures are errors, and of nothing else is warned. It holds for the
    whole process, so it is entered before threads begin and left after they end."""
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = most
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _map(function: Callable[[object], _Answer], items: Sequence[object], workers: int) -> Iterator[_Answer]:
    if workers <= 0:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(function, items)


def in_words(error: Exception) -> str:
    """In words, without the path, which is reported already."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return readable(str(error) or type(error).__name__)


def _bounds(path: Path) -> tuple[float, float] | None:
    """Of the values of a picture of more than eight bits; None where it does not decode, which `decode`
    tells.
    """
    try:
        return deep.bounds(deep.read_deep(path)[0])
    except Exception as error:  # Pillow raises many kinds for a damaged file
        decode_error(error, path)
        return None
